//! `wabbit test`: scenarios of handlers in the real sandbox, and what is said when they fail or are wrong.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::docs::pages::{Reader, blocks};
use crate::harness::process::Output;
use crate::harness::{host, places};
use crate::outcomes::guest;

/// A project with plugins that are there already, as if they were compiled from its sources.
struct Project(TempDir);

impl Project {
    fn new() -> Project {
        let project = Project(places::folder("scenarios"));
        for folder in ["manifests", "plugins/src"] {
            fs::create_dir_all(project.path(folder)).unwrap();
        }
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// A plugin with the manifest of its name, and a scenario `case`.
    fn with(self, name: &str, plugin: &str, manifest: &str, scenario: &str) -> Project {
        let file = format!("{}.wasm", name.replace('-', "_"));
        fs::create_dir_all(self.path(&format!("plugins/src/{name}/scenarios"))).unwrap();
        fs::copy(guest(plugin), self.path("plugins").join(&file)).unwrap();
        self.write(
            &format!("manifests/{name}.toml"),
            &format!("plugin = \"{file}\"\n[[queue]]\nname = \"{name}\"\n{manifest}"),
        );
        self.scenario(name, "case", scenario);
        self
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn scenario(&self, plugin: &str, name: &str, text: &str) {
        self.write(&format!("plugins/src/{plugin}/scenarios/{name}.toml"), text);
    }

    async fn test(&self, arguments: &[&str]) -> Output {
        host::run(self.0.path(), &[&["test"], arguments].concat()).await
    }

    /// What `--json` prints, with the exit code.
    async fn json(&self) -> (Value, i32) {
        let output = self.test(&["--json"]).await;
        (serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}")), output.code)
    }
}

const ANY: &str = "[grant]\npublish = [\"/#\", \"told/#\"]\n";

/// The examples' own, whose plugins `make plugins` compiles where their language is here.
#[tokio::test]
async fn the_scenarios_of_the_examples_hold() {
    let sources = fs::read_dir(places::root().join("plugins/src")).unwrap();
    let names: Vec<_> = sources
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| places::root().join(format!("plugins/src/{name}/scenarios")).is_dir())
        .filter(|name| places::root().join(format!("plugins/{}.wasm", name.replace('-', "_"))).exists())
        .collect();
    for name in ["order-notify", "order-report", "order-mail", "order-archive"] {
        assert!(names.iter().any(|known| known == name), "`make plugins` compiles {name}; here are {names:?}");
    }
    let words: Vec<_> = ["test"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let output = host::run(&places::root(), &words).await;
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    let (_, summary) = output.stdout.trim_end().rsplit_once('\n').unwrap();
    let count = output.stdout.lines().count() - 1;
    assert_eq!(summary, format!("{count} scenarios: {count} ok"));
}

/// The page on testing, followed to the letter.
#[tokio::test(flavor = "multi_thread")]
async fn testing_goes_as_its_page_shows() {
    let folder = places::folder("testing");
    let copies = [
        ("plugins/order_notify.wasm", "plugins/order_notify.wasm"),
        ("manifests/order-notify.toml", "manifests/order-notify.toml"),
    ];
    for (from, to) in copies {
        let to = folder.path().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(places::root().join(from), to).unwrap();
    }
    fs::create_dir_all(folder.path().join("plugins/src/order-notify/scenarios")).unwrap();
    let path = format!("{}:{}", places::build().display(), std::env::var("PATH").unwrap());
    let mut reader = Reader::new(folder.path())
        .environment("PATH", &path)
        .environment("XDG_CACHE_HOME", places::temporary().join("cache").to_str().unwrap());
    let page = fs::read_to_string(places::root().join("docs/testing.md")).unwrap();
    reader.follow("docs/testing.md", &blocks(&page)).await;
}

#[tokio::test]
async fn what_differs_is_shown_field_by_field() {
    let scenario = r#"
[[delivery]]
json = { do = "publish", publications = [{ to = "told/k", body = "{\"a\": {\"b\": [1, 2]}, \"c\": null}" }], then = { do = "log", text = "said" } }

[delivery.expect]
settlement = "requeue"
log = []
publications = [{ exchange = "told", routing_key = "k", json = { a = { b = [1, 3] } } }]

[[delivery]]
json = { do = "ack" }
expect.settlement = "ack"

[[delivery]]
json = { do = "error", text = "no hay" }
"#;
    let project = Project::new().with("probe", "probe", ANY, scenario);
    let output = project.test(&[]).await;
    assert_eq!(output.code, 1, "{output:?}");
    let expected = r#"probe/case: failed
  delivery 1
    settlement
      - "requeue"
      + "ack"
    publications[0].json.a.b[1]
      - 3
      + 2
    publications[0].json.c
      - (nothing)
      + null
    log[0]
      - (nothing)
      + "said"
    the handler wrote
      said
  delivery 3
    failure
      - (nothing)
      + a failure: handler-error: no hay
1 scenario: 1 failed
"#;
    assert_eq!(output.stdout, expected);
    let (json, code) = project.json().await;
    assert_eq!((code, &json["failed"]), (1, &json!(1)));
    let differences = &json["scenarios"][0]["differences"];
    assert_eq!(differences[1], json!({"delivery": 1, "path": "publications[0].json.a.b[1]", "expected": 3, "got": 2}));
}

#[tokio::test]
async fn a_publication_that_the_host_would_refuse_is_a_failure() {
    let scenario = "[[delivery]]\njson = { do = \"publish\", publications = [{ to = \"other/k\" }] }\n\
                    expect.failure = { kind = \"publication-refused\", contains = \"`other`\" }\n\
                    [[delivery]]\njson = { do = \"publish\", publications = [{ to = \"told/k\" }] }\nexpect.settlement = \"ack\"\n";
    let project = Project::new().with("probe", "probe", ANY, scenario);
    assert_eq!(project.test(&[]).await.success(), "probe/case: ok\n1 scenario: 1 ok\n");
}

#[tokio::test]
async fn the_limits_are_those_of_the_manifest() {
    let scenario = "[[delivery]]\njson = { do = \"loop\" }\nexpect.failure = \"time-limit\"\n\
                    [[delivery]]\njson = { do = \"sleep\", ms = 400 }\nexpect.failure = \"time-limit\"\n\
                    [[delivery]]\njson = { do = \"sleep\", ms = 200 }\nexpect.settlement = \"ack\"\n\
                    [[delivery]]\njson = { do = \"memory\", mib = 20 }\nexpect.failure = \"memory-limit\"\n";
    let manifest = "[limits]\ntime = \"300ms\"\nmemory = \"8MiB\"\n";
    let project = Project::new().with("probe", "probe", manifest, scenario);
    project.test(&[]).await.success();
}

#[tokio::test]
async fn a_store_lasts_from_one_delivery_to_the_next() {
    let scenario = r#"
[given.keyvalue]
there = "1"
json = { json = { a = 1 } }

[[delivery]]
json = { calls = [{ increment = ["there", 2] }, { set = ["new", "x"] }, { get = "json" }, "keys"], to = "told" }

[delivery.expect]
keyvalue = { there = "3", new = "x", json = { json = { a = 1.0 } } }
[[delivery.expect.publications]]
routing_key = "told"
json = [3, "null", "{\"a\":1}", ["json", "new", "there"]]
properties = { content_type = "application/json" }

[[delivery]]
json = { calls = [{ delete = "new" }] }
expect.keyvalue = { there = "3", json = "{\"a\":1}" }
"#
    .replace("\"null\"", "\"?\"");
    let manifest = "[grant]\npublish = [\"/told\"]\nkeyvalue = \"default\"\n";
    let project = Project::new().with("counter", "counter", manifest, &scenario);
    // The second answer is null, which TOML has no word for: it is accepted as a text.
    let output = project.test(&[]).await;
    assert!(output.stdout.contains("publications[0].json[1]\n      - \"?\"\n      + null"), "{output:?}");
    project.test(&["--update"]).await.success();
    assert!(project.read("plugins/src/counter/scenarios/case.toml").contains("text = '"));
    project.test(&[]).await.success();
}

#[tokio::test]
async fn http_requests_get_the_answers_that_are_given() {
    let scenario = r#"
[[given.http]]
url = "http://shop.example/a?b=1"
status = 201
headers = { x-a = "1" }
json = { first = true }
[[given.http]]
url = "http://shop.example/a?b=1"
error = "connection-refused"

[[delivery]]
json = { to = "told", requests = [{ url = "http://shop.example/a?b=1", method = "GET", headers = [["x-q", "7"]] }] }
[[delivery.expect.http]]
url = "http://shop.example/a?b=1"
headers = { x-q = "7" }

[[delivery]]
json = { to = "told", requests = [{ url = "http://shop.example/a?b=1" }] }
expect.http = [{ url = "http://shop.example/a?b=1" }]

# It goes on although there is no answer, and has failed all the same.
[[delivery]]
json = { to = "told", requests = [{ url = "http://shop.example/a?b=1", method = "POST", body = "x" }] }
expect.failure = { kind = "host", contains = "the HTTP answer to `POST http://shop.example/a?b=1` is not given" }
expect.publications = []
"#;
    let manifest = "[grant]\npublish = [\"/told\"]\nhttp = [\"http://shop.example\"]\n";
    let project = Project::new().with("fetch", "fetch", manifest, scenario);
    // That is wrong: what fails publishes nothing in any case.
    let output = project.test(&[]).await;
    assert_eq!(output.code, 64, "{output:?}");
    assert!(output.stderr.contains("`publications` has no meaning with a `failure`"), "{}", output.stderr);
    project.scenario("fetch", "case", &scenario.replace("expect.publications = []\n", ""));
    let output = project.test(&[]).await;
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    // What came is told: the first response, then why there was no second one.
    let told = scenario.replace("expect.publications = []\n", "").replacen(
        "[[delivery.expect.http]]",
        "[delivery.expect]\npublications = []\n[[delivery.expect.http]]",
        1,
    );
    project.scenario("fetch", "case", &told);
    let output = project.test(&[]).await.stdout;
    assert!(output.contains("201") && output.contains("{\\\"first\\\":true}"), "{output}");
}

#[tokio::test]
async fn folders_hold_what_is_given_and_no_more() {
    let scenario = "[given.files.\"/reports\"]\n\"A-16.txt\" = \"sixteen\"\n\
                    [[delivery]]\ntext = \"seventeen\"\nproperties = { message_id = \"A-17\" }\n\
                    expect.files = { \"/reports\" = { \"A-16.txt\" = \"sixteen\", \"A-17.txt\" = \"17\" } }\n";
    let project = Project::new().with("archive", "probe", "", scenario);
    let plugin = places::root().join("plugins/order_archive.wasm");
    fs::copy(plugin, project.path("plugins/archive.wasm")).unwrap();
    let output = project.test(&[]).await;
    assert_eq!(output.code, 64);
    assert!(output.stderr.contains("manifest `archive` grants no folder `/reports`"), "{}", output.stderr);
    let manifest = project.read("manifests/archive.toml");
    let grant = "[grant]\nfiles = [{ host = \"nowhere\", guest = \"/reports\", write = true }]\n";
    project.write("manifests/archive.toml", &format!("{manifest}{grant}"));
    let output = project.test(&[]).await;
    let shown = "files.\"/reports\".\"A-17.txt\"\n      - \"17\"\n      + \"seventeen\"";
    assert!(output.stdout.contains(shown), "{output:?}");
    assert!(!project.path("nowhere").exists());
}

#[tokio::test]
async fn secrets_are_given_and_never_read() {
    let manifest = "[grant]\npublish = [\"/#\"]\nconfig = { shop = \"north\" }\nsecrets = { token = \"env:PATH\" }\n";
    let project =
        Project::new().with("reader", "reader", manifest, "[[delivery]]\njson = { read = [\"token\", \"shop\"] }\n");
    let output = project.test(&[]).await;
    assert_eq!(output.code, 64, "{output:?}");
    let hint = "hint: add `token = \"…\"` below `[given.secrets]`";
    assert!(output.stderr.contains("the secret `token` of manifest `reader` is not given"), "{}", output.stderr);
    assert!(output.stderr.contains(hint), "{}", output.stderr);
}

#[tokio::test]
async fn the_same_input_comes_to_the_same_outcome() {
    for form in ["fickle", "core_fickle"] {
        // A minute of waiting takes no minute.
        let scenario = "[given]\nclock = \"2026-03-01T12:00:00Z\"\nseed = 7\n\
                        [[delivery]]\ntext = \"60000\"\nexpect.publications = []\n[[delivery]]\ntext = \"1\"\nexpect.publications = []\n\
                        [[delivery]]\nclock = 2027-01-01T00:00:00Z\ntext = \"\"\nexpect.publications = []\n";
        let manifest = format!("{ANY}[limits]\ntime = \"2m\"\n");
        let project = Project::new().with("fickle", form, &manifest, scenario);
        let (once, _) = project.json().await;
        let (again, _) = project.json().await;
        assert_eq!(once, again, "{form}");
        let told = |delivery: usize| once["scenarios"][0]["differences"][delivery]["got"]["json"].clone();
        let (first, second, third) = (told(0), told(1), told(2));
        assert_eq!(first["wall"][0], "1772366400001000000", "{first}");
        let waited: u64 = first["took"].as_str().unwrap().parse().unwrap();
        assert!((60_000_000_000..60_100_000_000).contains(&waited), "{first}");
        assert_eq!((&first["remaining_ms"], &second["remaining_ms"]), (&json!("120000"), &json!("120000")));
        assert_eq!(first["not_a_number"], json!(["7ff8000000000000", "7ff8000000000000", "7ff8000000000000"]));
        assert!(second["wall"][0].as_str() > first["wall"][1].as_str(), "{first} {second}");
        assert!(third["wall"][0].as_str().unwrap().starts_with("17987616000"), "{third}");
        assert_eq!(third["handled"], 1, "each delivery has an instance of its own");
        // Another seed, other numbers.
        project.scenario("fickle", "case", &scenario.replace("seed = 7", "seed = 8"));
        let (other, _) = project.json().await;
        let other = &other["scenarios"][0]["differences"][0]["got"]["json"];
        assert_eq!((&other["wall"], other["random"] == first["random"]), (&first["wall"], false), "{form}");
    }
}

#[tokio::test]
async fn instances_are_kept_where_the_manifest_says_so() {
    let scenario = "[[delivery]]\nexpect.publications = []\n[[delivery]]\nexpect.publications = []\n";
    let project = Project::new().with("fickle", "fickle", &format!("{ANY}[instance]\nreuse = true\n"), scenario);
    let (json, _) = project.json().await;
    let handled = |delivery: usize| &json["scenarios"][0]["differences"][delivery]["got"]["json"]["handled"];
    assert_eq!((handled(0), handled(1)), (&json!(1), &json!(2)));
    let (again, _) = project.json().await;
    assert_eq!(json, again);
}

#[tokio::test]
async fn what_came_is_accepted_and_the_rest_stays_as_it_is() {
    let scenario = r#"# Of a probe.

[[delivery]] # the first
json = { do = "publish", publications = [{ to = "told/k", body = "{\"a\":1,\"b\":\"x\"}" }] }

[delivery.expect]
settlement = "retry" # why not
log = ["old"]

# What comes of it.
[[delivery.expect.publications]]
exchange   = "told" # with blanks
routing_key = "old"
json = { a = 2, b = "x" }

[[delivery]]
json = { do = "error", text = "no hay" }
expect.settlement = "ack"

[[delivery]]
json = { do = "ack" }
"#;
    let expected = r#"# Of a probe.

[[delivery]] # the first
json = { do = "publish", publications = [{ to = "told/k", body = "{\"a\":1,\"b\":\"x\"}" }] }

[delivery.expect]
settlement = "ack" # why not
log = []

# What comes of it.
[[delivery.expect.publications]]
exchange   = "told" # with blanks
routing_key = "k"
json = { a = 1, b = "x" }

[[delivery]]
json = { do = "error", text = "no hay" }
expect.failure = { contains = "no hay", kind = "handler-error" }

[[delivery]]
json = { do = "ack" }

[delivery.expect]
settlement = "ack"
publications = []
"#;
    let project = Project::new().with("probe", "probe", ANY, scenario);
    assert_eq!(project.test(&["--update"]).await.success(), "probe/case: updated\n1 scenario: 1 updated\n");
    assert_eq!(project.read("plugins/src/probe/scenarios/case.toml"), expected);
    assert_eq!(project.test(&["--update"]).await.success(), "probe/case: ok\n1 scenario: 1 ok\n");
    assert_eq!(project.read("plugins/src/probe/scenarios/case.toml"), expected);
}

#[tokio::test]
async fn a_scenario_that_is_wrong_is_told_with_its_line() {
    let project = Project::new().with("probe", "probe", "", "");
    for (scenario, parts) in [
        ("", &["there is no delivery", "hint: add `[[delivery]]`"][..]),
        ("[[delivery]]\nbdy = 1\n", &["unknown key `bdy`", "case.toml:2:1", "2 | bdy = 1"]),
        ("[[delivery]]\ntext = \"a\"\njson = 1\n", &["a body is written in one way", "case.toml:3:8"]),
        ("[[delivery]]\n[delivery.expect]\nsettlement = \"nack\"\n", &["this is no settlement", "hint: \"ack\""]),
        ("[[delivery]]\nexpect.failure = \"tarp\"\n", &["`tarp` is no kind of failure", "did you mean `trap`?"]),
        ("[[delivery]]\nproperties = { priority = 256 }\n", &["these are no properties", "256"]),
        ("[[delivery]]\nfile = \"none.json\"\n", &["`none.json` cannot be read"]),
        ("[[delivery]]\nclock = \"noon\"\n", &["`clock` must be a time"]),
        (
            "manifest = \"prob\"\n[[delivery]]\n",
            &["there is no manifest `prob`", "did you mean `probe`?", "case.toml:1"],
        ),
        ("[given]\nkeyvalue = { a = \"1\" }\n[[delivery]]\n", &["grants no key-value store", "case.toml:2"]),
        ("[given.config]\na = \"1\"\n[[delivery]]\n", &["has no `a` in `config`"]),
        ("[[given.http]]\nstatus = 200\n[[delivery]]\n", &["`url` is missing", "case.toml:1"]),
        ("[given.files.\"/a\"]\n\"../b\" = \"\"\n[[delivery]]\n", &["`../b` is no file within a folder"]),
        ("[[delivery]\n", &["case.toml:1"]),
    ] {
        project.scenario("probe", "case", scenario);
        let output = project.test(&[]).await;
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (64, "probe/case: wrong\n1 scenario: 1 wrong\n"),
            "{scenario}"
        );
        for part in parts {
            assert!(output.stderr.contains(part), "`{part}` is not in\n{}", output.stderr);
        }
    }
    let (json, code) = project.json().await;
    assert_eq!((code, &json["wrong"], &json["scenarios"][0]["problems"][0]["line"]), (64, &json!(1), &json!(1)));
}

#[tokio::test]
async fn a_plugin_has_to_be_there_and_to_be_new() {
    let project = Project::new().with("probe", "probe", "", "[[delivery]]\n");
    let plugin = fs::File::options().write(true).open(project.path("plugins/probe.wasm")).unwrap();
    plugin.set_modified(SystemTime::now() - Duration::from_secs(10)).unwrap();
    project.write("plugins/src/probe/handler.x", "changed");
    let output = project.test(&[]).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("warning: probe: the plugin is older than its sources\nhint: `wabbit build probe`"));
    fs::remove_file(project.path("plugins/probe.wasm")).unwrap();
    let output = project.test(&[]).await;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("there is no `plugins/probe.wasm`\nhint: `wabbit build probe`"),
        "{}",
        output.stderr
    );
}

#[tokio::test]
async fn scenarios_and_manifests_are_chosen_by_name() {
    let project =
        Project::new().with("probe", "probe", "", "[[delivery]]\n").with("other", "probe", "", "[[delivery]]\n");
    project.scenario("probe", "second", "[[delivery]]\njson = { do = \"error\" }\n");
    assert_eq!(project.test(&["other"]).await.success(), "other/case: ok\n1 scenario: 1 ok\n");
    let output = project.test(&["--only", "case"]).await.success();
    assert_eq!(output, "other/case: ok\nprobe/case: ok\n2 scenarios: 2 ok\n");
    let output = project.test(&[]).await;
    assert_eq!((output.code, output.stdout.lines().last()), (1, Some("3 scenarios: 2 ok, 1 failed")));
    assert_eq!(project.test(&["--only", "none"]).await.code, 1);
    assert_eq!(project.test(&["nobody"]).await.code, 1);

    // Two manifests of one plugin: the scenario has to say which.
    project.write("manifests/third.toml", "plugin = \"probe.wasm\"\n[[queue]]\nname = \"third\"\n");
    let output = project.test(&["probe", "--only", "case"]).await;
    assert_eq!(output.code, 64);
    assert!(output.stderr.contains("the manifests `probe`, `third` name this plugin"), "{}", output.stderr);
    let third = "manifest = \"third\"\n[[delivery]]\njson = { do = \"describe\", to = \"/x\" }\nexpect.failure = \"publication-refused\"\n";
    project.scenario("probe", "case", third);
    project.test(&["probe", "--only", "case"]).await.success();
    project.scenario("probe", "case", &third.replace("\"third\"", "\"../../../../manifests/third.toml\""));
    project.test(&["probe", "--only", "case"]).await.success();
    // None at all.
    fs::remove_file(project.path("manifests/other.toml")).unwrap();
    let output = project.test(&["other"]).await;
    assert!(output.stderr.contains("no manifest names the plugin `other.wasm`"), "{}", output.stderr);
}
