//! What each row has to do, whoever works and whatever the broker.

use std::fs;

use nix::sys::signal::Signal;

use super::stage::{Cast, LONG, Stage, copy_manifests, script};
use crate::harness::amqp::Peer;
use crate::harness::process::{self, Lines, Process};
use crate::harness::{DEADLINE, host, places, wait_until};

/// A row, with the messages that a test sends and those that `make gallery` does. A host logs at most 1,000 lines of a
/// worker in a second, so that rows which print have fewer.
pub struct Row {
    pub name: &'static str,
    pub small: usize,
    pub full: usize,
}

pub const ROWS: [Row; 15] = [
    Row { name: "hello", small: 3, full: 900 },
    Row { name: "adapter", small: 9, full: 3000 },
    Row { name: "work-queue", small: 4, full: 12 },
    Row { name: "fair-work", small: 1200, full: 100_001 },
    Row { name: "broadcast", small: 5, full: 900 },
    Row { name: "logs", small: 5, full: 900 },
    Row { name: "notify", small: 4, full: 500 },
    Row { name: "routing", small: 6, full: 900 },
    Row { name: "topics", small: 8, full: 900 },
    Row { name: "headers", small: 10, full: 900 },
    Row { name: "request-response", small: 20, full: 1000 },
    Row { name: "fibonacci", small: 21, full: 25 },
    Row { name: "orders", small: 10, full: 500 },
    Row { name: "confirms", small: 3000, full: 50_000 },
    Row { name: "pipeline", small: 40, full: 400 },
];

/// Plays a row with so many messages. Returns what it measured, where it did.
pub async fn play(stage: &Stage, messages: usize) -> String {
    match stage.row {
        "hello" => hello(stage, messages).await,
        "adapter" => adapter(stage, messages).await,
        "work-queue" => work_queue(stage, messages).await,
        "fair-work" => fair_work(stage, messages).await,
        "broadcast" => broadcast(stage, messages).await,
        "logs" => logs(stage, messages).await,
        "notify" => notify(stage, messages).await,
        "routing" => routing(stage, messages).await,
        "topics" => topics(stage, messages).await,
        "headers" => headers(stage, messages).await,
        "request-response" => request_response(stage, messages).await,
        "fibonacci" => fibonacci(stage, messages).await,
        "orders" => orders(stage, messages).await,
        "confirms" => return confirms(stage, messages).await,
        "pipeline" => pipeline(stage, messages).await,
        other => panic!("there is no row `{other}`"),
    }
    String::new()
}

async fn send(stage: &Stage, messages: usize, more: &[&str]) -> String {
    stage.client(&[&["--messages", &messages.to_string()], more].concat()).await
}

async fn hello(stage: &Stage, messages: usize) {
    let cast = stage.workers(&[("hello", &[])]).await;
    let said = send(stage, messages, &[]).await;
    assert_eq!(said, format!("{messages} sent\nall were taken\n"));
    let expected = (1..=messages).map(|number| match number {
        1 => "Hello World!".to_owned(),
        number => format!("Hello World! ({number})"),
    });
    cast.expect("hello", false, expected).await;
}

async fn adapter(stage: &Stage, messages: usize) {
    let cast = stage.workers(&[("listener", &[])]).await;
    let said = send(stage, messages, &[]).await;
    assert_eq!(said, format!("{messages} sent, and each was answered once, to its queue\n"));
    if !stage.is_wabbit() {
        drop(cast);
        let (mut process, lines) = script("adapter-worker-whole", &stage.url, "the whole worker", &[]);
        wait_for_lines(&lines, &["consuming"]).await;
        send(stage, messages, &[]).await;
        process.kill();
        return;
    }
    // The settings by environment: the same manifests, another broker.
    let folder = cast.folder.clone();
    drop(cast);
    let settings = fs::read_to_string(places::root().join("examples/gallery/adapter.toml")).unwrap();
    let plugins = places::root().canonicalize().unwrap().join("plugins");
    let settings = settings
        .replace("../../plugins", plugins.to_str().unwrap())
        .replace("amqp://guest:guest@127.0.0.1:5672/%2f", &stage.url);
    assert!(settings.contains(&stage.url) && settings.contains(plugins.to_str().unwrap()), "{settings}");
    fs::create_dir_all(folder.join("examples/gallery")).unwrap();
    fs::write(folder.join("examples/gallery/adapter.toml"), settings).unwrap();
    let chosen = ["--config", "examples/gallery/adapter.toml", "--environment"];
    host::run(&folder, &[&["check"], &chosen[..], &["production"]].concat()).await.success();
    let mut command = host::wabbit(&folder);
    command.arg("run").args(chosen).arg("development");
    let lines = Lines::default();
    let mut process = Process::start("the host", command, &lines);
    wait_for_lines(&lines, &[" consuming worker=listener ", " consuming worker=complaints "]).await;
    send(stage, 3, &[]).await;
    process.signal(Signal::SIGTERM);
    assert!(process.ended(DEADLINE).await.success(), "{lines}");
}

async fn wait_for_lines(lines: &Lines, wanted: &[&str]) {
    wait_until(DEADLINE, format!("{wanted:?}"), async || match wanted.iter().find(|text| lines.find(text).is_none()) {
        None => Ok(()),
        Some(missing) => Err(format!("`{missing}` is missing in\n{lines}")),
    })
    .await;
}

async fn work_queue(stage: &Stage, messages: usize) {
    let mut casts = [stage.workers(&[("tasks", &[])]).await, stage.workers(&[("tasks", &[])]).await];
    let tasks: Vec<_> = (0..messages).map(|number| format!("task {number}.")).collect();
    stage.client(&tasks.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let done = |casts: &[Cast]| -> Vec<String> {
        let printed = casts.iter().flat_map(|cast| cast.printed("tasks"));
        printed.filter_map(|line| Some(line.strip_prefix("done: ")?.to_owned())).collect()
    };
    let mut finished = wait_until(DEADLINE, "all tasks to be done", async || {
        let finished = done(&casts);
        if finished.len() >= tasks.len() { Ok(finished) } else { Err(format!("{} are", finished.len())) }
    })
    .await;
    finished.sort();
    let mut expected = tasks.clone();
    expected.sort();
    assert_eq!(finished, expected);
    assert!(casts.iter().all(|cast| !cast.printed("tasks").is_empty()), "one host did all of it");

    // Whoever works on it dies in the middle.
    stage.client(&["the last task.."]).await;
    let begun = "begins: the last task..".to_owned();
    let first = wait_until(DEADLINE, "the last task to begin", async || {
        casts.iter().position(|cast| cast.printed("tasks").contains(&begun)).ok_or_else(|| "it has not".to_owned())
    })
    .await;
    casts[first].kill();
    let other = 1 - first;
    wait_until(DEADLINE, "the other host to finish the task", async || {
        let printed = casts[other].printed("tasks");
        match printed.iter().filter(|line| line.ends_with("the last task..")).count() {
            2 => Ok(()),
            _ => Err(format!("it printed {printed:?}")),
        }
    })
    .await;
    assert!(casts[other].printed("tasks").ends_with(&[begun, "done: the last task..".to_owned()]));
}

/// From here on fair work sends as fast as it goes.
const MANY: usize = 10_000;

/// A hundred thousand numbers wait in the queue, and who is faster takes more. A few come one after the other, so that all
/// hosts wait for each, and a machine that is busy with other tests takes nobody's share.
async fn fair_work(stage: &Stage, messages: usize) {
    let mut casts = Vec::new();
    for _ in 0..3 {
        casts.push(stage.workers(&[("numbers", &[])]).await);
    }
    let slowly: &[&str] = if messages < MANY { &["--rate", "400"] } else { &[] };
    let said = send(stage, messages, &[&["--workers", "3"], slowly].concat()).await;
    assert_eq!(said, format!("each of {messages} numbers was handled once\n"));
    if !stage.is_wabbit() {
        return;
    }
    let shares = wait_until(DEADLINE, "all numbers to be acked", async || {
        let mut shares = Vec::new();
        for cast in &casts {
            shares.push(cast.metric("wabbit_deliveries_total{worker=\"numbers\",outcome=\"acked\"}").await as usize);
        }
        let sum: usize = shares.iter().sum();
        if sum == messages { Ok(shares) } else { Err(format!("{sum} are")) }
    })
    .await;
    let fair = messages / 3;
    assert!(shares.iter().all(|share| share.abs_diff(fair) <= fair / 4), "{shares:?} of {messages}");
}

async fn broadcast(stage: &Stage, messages: usize) {
    let scores = |name: &str| (0..messages).map(|goals| format!("{name} {goals}:0")).collect::<Vec<_>>();
    // Nobody listens.
    send(stage, messages, &["--match", "Early"]).await;
    let mut cast = stage.workers(&[("scores", &[])]).await;
    send(stage, messages, &["--match", "Midday"]).await;
    cast.expect("scores", true, scores("Midday")).await;
    cast.kill();
    send(stage, messages, &["--match", "Evening"]).await;
    cast.start().await;
    send(stage, messages, &["--match", "Late"]).await;
    cast.expect("scores", true, scores("Late")).await;
}

async fn logs(stage: &Stage, messages: usize) {
    let cast = stage.workers(&[("screen", &[]), ("disk", &["--file", "FOLDER/target/gallery/logs/disk.log"])]).await;
    send(stage, messages, &[]).await;
    let lines = || (1..=messages).map(|number| format!("line {number}"));
    cast.expect("screen", false, lines()).await;
    cast.expect_file("target/gallery/logs/disk.log", lines()).await;
}

async fn notify(stage: &Stage, messages: usize) {
    let mut casts = Vec::new();
    for name in ["scheduling", "reporting"] {
        let folder = format!("FOLDER/target/gallery/{name}");
        casts.push(stage.some_workers(&[name], &[(name, &[name, &folder])]).await);
    }
    send(stage, messages, &[]).await;
    wait_for_records(&casts[0], "scheduling", messages).await;
    casts[0].kill();
    send(stage, messages, &["--first", &(messages + 1).to_string()]).await;
    wait_for_records(&casts[1], "reporting", 2 * messages).await;
    wait_for_records(&casts[0], "scheduling", messages).await;
    casts[0].start().await;
    wait_for_records(&casts[0], "scheduling", 2 * messages).await;
}

/// Waits until there are exactly the records of the first patients.
async fn wait_for_records(cast: &Cast, name: &str, count: usize) {
    let folder = cast.folder.join("target/gallery").join(name);
    let files = || {
        let entries = fs::read_dir(&folder).map_err(|error| error.to_string())?;
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        Ok::<Vec<_>, String>(names.filter(|name| !name.starts_with('.')).collect())
    };
    let mut found = wait_until(DEADLINE, format!("{count} records of {name}"), async || {
        let found = files()?;
        if found.len() >= count { Ok(found) } else { Err(format!("{} are there", found.len())) }
    })
    .await;
    let mut expected: Vec<_> = (1..=count).map(|id| format!("{id}.json")).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

async fn routing(stage: &Stage, messages: usize) {
    let file = "target/gallery/routing/errors.log";
    let path = format!("FOLDER/{file}").replace("/routing/", "/logs/");
    let cast =
        stage.workers(&[("screen", &["info", "warning", "error"]), ("errors", &["error", "--file", &path])]).await;
    send(stage, messages, &[]).await;
    let line = |number: usize| format!("{}: line {}", ["info", "warning", "error"][number % 3], number + 1);
    cast.expect("screen", false, (0..messages).map(line)).await;
    let file = if stage.is_wabbit() { file } else { "target/gallery/logs/errors.log" };
    cast.expect_file(file, (2..messages).step_by(3).map(line)).await;
}

async fn topics(stage: &Stage, messages: usize) {
    let scripts: [(&str, &[&str]); 3] =
        [("kernel", &["kern.*"]), ("critical", &["*.critical"]), ("everything", &["#"])];
    let cast = stage.workers(&scripts).await;
    send(stage, messages, &[]).await;
    let lines = (0..messages).map(|number| {
        let key = ["kern.critical", "kern.info", "cron.critical", "cron.info"][number % 4];
        format!("{key}: line {}", number + 1)
    });
    let lines: Vec<_> = lines.collect();
    cast.expect("kernel", false, lines.iter().filter(|line| line.starts_with("kern.")).cloned()).await;
    cast.expect("critical", false, lines.iter().filter(|line| line.contains(".critical: ")).cloned()).await;
    cast.expect("everything", false, lines.iter().cloned()).await;
}

async fn headers(stage: &Stage, messages: usize) {
    let scripts: [(&str, &[&str]); 2] = [("reports", &["documents_reports"]), ("drafts", &["documents_drafts"])];
    let cast = stage.workers(&scripts).await;
    send(stage, messages, &[]).await;
    let all = [("pdf", "report"), ("pdf", "draft"), ("txt", "report"), ("txt", "draft"), ("txt", "letter")];
    let documents = (0..messages).map(|number| (number + 1, all[number % all.len()]));
    let documents: Vec<_> = documents.collect();
    let shown = |wanted: fn(&str, &str) -> bool| {
        let fitting = documents.iter().filter(move |(_, (format, kind))| wanted(format, kind));
        fitting.map(|(number, (format, kind))| format!("{kind} {number} as {format}")).collect::<Vec<_>>()
    };
    cast.expect("reports", false, shown(|format, kind| format == "pdf" && kind == "report")).await;
    cast.expect("drafts", false, shown(|format, kind| format == "pdf" || kind == "draft")).await;
}

async fn request_response(stage: &Stage, messages: usize) {
    let cast = stage.workers(&[("patients", &[])]).await;
    let said = send(stage, messages, &[]).await;
    assert!(said.starts_with(&format!("{messages} patients added at once;")), "{said}");
    let printed = cast.printed("patients");
    let [late] = &*printed else { panic!("one line: {printed:?}") };
    assert!(late.ends_with(" ms too late: it is dropped"), "{late}");
}

async fn fibonacci(stage: &Stage, messages: usize) {
    let _cast = stage.workers(&[("fibonacci", &[])]).await;
    // What takes years, a script begins with all the same.
    let said = send(stage, messages, if stage.is_wabbit() { &["--hard"] } else { &[] }).await;
    assert!(said.starts_with(&format!("{messages} numbers, ")), "{said}");
    for line in ["ten: error: this is no whole number", "94: error: the number is at most 93"] {
        assert!(said.lines().any(|said| said == line), "{said}");
    }
    if stage.is_wabbit() {
        assert!(said.ends_with("90: no answer in 0.5 s\n10: 55\n"), "{said}");
        let letter = Peer::connect(&stage.url).await.take("rpc_queue.dead", DEADLINE).await;
        assert_eq!((letter.text(), letter.text_header("x-wabbit-reason").as_deref()), ("90", Some("time-limit")));
    }
}

async fn orders(stage: &Stage, messages: usize) {
    let cast = stage.workers(&[("orders", &[])]).await;
    let said = stage.client(&["--orders", &messages.to_string()]).await;
    assert!(said.contains(&format!("every one of the {messages} orders was notified and reported")), "{said}");
    if stage.is_wabbit() {
        let printed = ["order-notify", "order-report"].map(|worker| cast.printed(worker).len());
        assert_eq!(printed, [messages; 2]);
    }
}

async fn confirms(stage: &Stage, messages: usize) -> String {
    let cast = stage.workers(&[("burst", &[])]).await;
    let bursts = messages / 1000;
    let said = send(stage, messages, &[]).await;
    assert_eq!(said, format!("{messages} messages came, for {bursts} that were sent\n"));
    if !stage.is_wabbit() {
        return String::new();
    }
    let mut command = host::wabbit(&cast.folder);
    command.args(["publish", "--amqp-url", &stage.url, "--routing-key", "burst_out", "--body", "x"]);
    command.args(["--count", &messages.to_string(), "--confirms", "each,batch,pipelined"]);
    let published = process::run("wabbit publish", command, LONG).await.success();
    for way in ["each", "batch", "pipelined"] {
        let told = published.lines().find(|line| line.ends_with(&format!("({way})")));
        let told = told.unwrap_or_else(|| panic!("no rate of `{way}`: {published}"));
        assert!(told.starts_with(&format!("{messages} confirmed in ")) && told.contains(" a second "), "{told}");
    }
    let peer = Peer::connect(&stage.url).await;
    peer.wait_for_count("burst_out", u32::try_from(3 * messages).unwrap(), DEADLINE).await;
    published
}

async fn pipeline(stage: &Stage, messages: usize) {
    let _cast = stage.workers(&[("pipeline", &[])]).await;
    let said = send(stage, messages, &[]).await;
    assert!(said.starts_with(&format!("{} purchases sent\n", messages + messages / 4)), "{said}");
    assert_eq!(said.matches("who bought ").count(), 6, "{said}");
}

/// A second handler on a queue is refused, and so is the first: which one it is to be, nobody can say.
pub async fn refuse_a_second_handler() {
    let folder = places::folder("gallery");
    let manifests = folder.path().join("manifests/gallery/adapter");
    copy_manifests("adapter", &[], &manifests);
    fs::write(manifests.join("second.toml"), "plugin = \"print.wasm\"\n\n[[queue]]\nname = \"adapter_orders\"\n")
        .unwrap();
    let plugins = places::root().canonicalize().unwrap().join("plugins");
    let arguments = ["check", "--plugins", plugins.to_str().unwrap(), "--manifests", "manifests/gallery/adapter"];
    let output = host::run(folder.path(), &arguments).await;
    assert_eq!(output.code, 64, "{output:?}");
    for part in ["adapter_orders", "adapter/listener.toml", "adapter/second.toml"] {
        assert!(output.stderr.contains(part), "`{part}` in {}", output.stderr);
    }
    assert!(output.stdout.starts_with("complaints: ok"), "{}", output.stdout);
}
