//! Works on a task: one second for each dot in it.

use std::{thread, time::Duration};

use wabbit_sdk::{Delivery, Error, Outcome};

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let task = delivery.text()?;
    println!("begins: {task}");
    thread::sleep(effort(task));
    println!("done: {task}");
    Ok(Outcome::ack())
}

fn effort(task: &str) -> Duration {
    task.chars().filter(|c| *c == '.').map(|_| Duration::from_secs(1)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_takes_a_second_for_each_dot() {
        assert_eq!(effort("a task"), Duration::ZERO);
        assert_eq!(effort("a. hard. task..."), Duration::from_secs(5));
    }
}
