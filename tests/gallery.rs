//! The gallery: each idiom runs as it stands in the repository, with ordinary clients on the other side. The same client
//! looks at a host on RabbitMQ, at one on the embedded broker, and at the script in pika that does without a host.

mod page;
mod rows;
mod stage;

use std::env;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Instant;

use futures_util::FutureExt;

use crate::harness::broker::Broker;
use rows::{ROWS, Row, play, refuse_a_second_handler};
use stage::{Setting, Stage};

fn row(name: &str) -> &'static Row {
    ROWS.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("there is no row `{name}`"))
}

/// Plays a row; what it measured, or the panic that ended it.
async fn attempt(setting: Setting, row: &Row, messages: usize) -> std::thread::Result<String> {
    let played = async {
        let stage = Stage::new(setting, row.name).await;
        let measured = play(&stage, messages).await;
        stage.close().await;
        measured
    };
    AssertUnwindSafe(played).catch_unwind().await
}

async fn small(setting: Setting, row: &Row) {
    if let Err(failure) = attempt(setting, row, row.small).await {
        eprintln!("that was `{}` on {setting:?}", row.name);
        resume_unwind(failure);
    }
}

/// Side by side, since most rows wait more than they compute.
async fn everywhere(name: &str) {
    let row = row(name);
    tokio::join!(small(Setting::RabbitMq, row), small(Setting::Embedded, row), small(Setting::Pika, row));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_is_printed() {
    everywhere("hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handler_listens_on_many_queues_and_answers_where_its_manifest_says() {
    everywhere("adapter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_handler_on_a_queue_is_refused() {
    refuse_a_second_handler().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_a_host_that_dies_goes_to_another() {
    everywhere("work-queue").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hosts_have_equal_shares_of_the_work() {
    everywhere("fair-work").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_score_is_shown_to_those_who_listen_and_kept_for_nobody() {
    everywhere("broadcast").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_of_the_log_gets_every_line() {
    everywhere("logs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_gets_what_was_sent_meanwhile() {
    everywhere("notify").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_go_to_the_file_and_all_lines_to_the_screen() {
    everywhere("routing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_goes_where_a_pattern_fits() {
    everywhere("topics").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_goes_where_its_headers_fit() {
    everywhere("headers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_gets_its_own_answer_or_none_when_it_is_late() {
    everywhere("request-response").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_takes_too_long_ends_by_itself() {
    everywhere("fibonacci").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_notified_and_reported_in_the_gallery_too() {
    everywhere("orders").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_of_one_delivery_are_confirmed() {
    everywhere("confirms").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_in_a_row_recommend_what_was_bought() {
    everywhere("pipeline").await;
}

/// `make gallery`: all rows, or `ROW`, at full size or, within that, as near to `N` as a row allows. A table in markdown
/// on stdout.
#[ignore = "takes minutes; `make gallery` runs it"]
#[tokio::test(flavor = "multi_thread")]
async fn all_rows() {
    let given = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let only = given("ROW").map(|name| row(&name).name);
    let number: Option<usize> = given("N").map(|text| text.parse().unwrap());
    // Starting a broker is no part of a row.
    Broker::ours().await;
    println!("| row | broker | messages | time | verdict |\n|---|---|---:|---:|---|");
    let (mut failed, mut notes) = (0, String::new());
    for row in ROWS.iter().filter(|row| only.is_none_or(|name| name == row.name)) {
        for (setting, broker) in [(Setting::RabbitMq, "RabbitMQ"), (Setting::Embedded, "embedded")] {
            let messages = number.map_or(row.full, |number| number.clamp(row.small, row.full));
            let began = Instant::now();
            let verdict = match attempt(setting, row, messages).await {
                Ok(measured) => {
                    for line in measured.lines() {
                        notes.push_str(&format!("- {} on {broker}: {line}\n", row.name));
                    }
                    "holds"
                }
                Err(_) => {
                    failed += 1;
                    "fails"
                }
            };
            println!("| {} | {broker} | {messages} | {:.1} s | {verdict} |", row.name, began.elapsed().as_secs_f64());
        }
    }
    println!("\n{notes}");
    assert_eq!(failed, 0, "rows that fail");
}
