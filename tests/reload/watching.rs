//! Every way in which files change.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use super::stamped::{WORKER, events, history, plugin, put, stage, version, wait_for, wait_for_version};
use crate::harness::{DEADLINE, wait_until};
use crate::outcomes::{backstage, curtain};

#[tokio::test]
async fn files_change_in_many_ways() {
    let stage = stage("watch-ways", "", WORKER).await;
    let file = plugin(&stage.host);
    let mut number = 0;
    let mut next = || {
        number += 1;
        version(number, "good")
    };
    // Overwritten in place.
    let bytes = next();
    fs::write(&file, &bytes).unwrap();
    wait_for_version(&stage.host, "w", &bytes).await;
    // Written aside and renamed.
    let bytes = next();
    put(&file, &bytes);
    wait_for_version(&stage.host, "w", &bytes).await;
    // Renamed from another folder.
    let bytes = next();
    fs::write(stage.host.folder().join("elsewhere"), &bytes).unwrap();
    fs::rename(stage.host.folder().join("elsewhere"), &file).unwrap();
    wait_for_version(&stage.host, "w", &bytes).await;
    // Deleted and made.
    let bytes = next();
    fs::remove_file(&file).unwrap();
    fs::write(&file, &bytes).unwrap();
    wait_for_version(&stage.host, "w", &bytes).await;
    // A link that leads elsewhere in the folder.
    let bytes = next();
    fs::write(stage.host.plugins().join("one"), &bytes).unwrap();
    fs::remove_file(&file).unwrap();
    symlink("one", &file).unwrap();
    wait_for_version(&stage.host, "w", &bytes).await;
    let bytes = next();
    fs::write(stage.host.plugins().join("two"), &bytes).unwrap();
    symlink("two", stage.host.plugins().join("link")).unwrap();
    fs::rename(stage.host.plugins().join("link"), &file).unwrap();
    wait_for_version(&stage.host, "w", &bytes).await;
    // A hard link.
    let bytes = next();
    fs::write(stage.host.folder().join("elsewhere"), &bytes).unwrap();
    fs::remove_file(&file).unwrap();
    fs::hard_link(stage.host.folder().join("elsewhere"), &file).unwrap();
    wait_for_version(&stage.host, "w", &bytes).await;
    let refused = events(&stage.host, "w").await.into_iter().filter(|(event, _)| event == "refused").count();
    assert_eq!(refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_being_written_is_waited_for() {
    let stage = stage("watch-slow", "", WORKER).await;
    let (bytes, path) = (version(1, "good"), plugin(&stage.host));
    let copy = thread::spawn({
        let bytes = bytes.clone();
        move || {
            let mut file = File::create(&path).unwrap();
            for part in bytes.chunks(bytes.len() / 10 + 1) {
                file.write_all(part).unwrap();
                file.flush().unwrap();
                thread::sleep(Duration::from_millis(150));
            }
        }
    });
    // Others are not held up by it.
    put(
        &stage.host.manifests().join("x.toml"),
        stage.named(&WORKER.replace("@work", "@other").replace("stamped", "probe")).as_bytes(),
    );
    wait_for(&stage.host, "x", "started").await;
    assert!(!copy.is_finished(), "the copy was not slow enough");
    copy.join().unwrap();
    wait_for_version(&stage.host, "w", &bytes).await;
    let found: Vec<_> = events(&stage.host, "w").await.into_iter().map(|(event, _)| event).collect();
    assert_eq!(found, ["started", "swapped"], "nothing in between was looked at");
}

/// As Kubernetes mounts a ConfigMap: the files are links through `..data`, a link to a folder that is exchanged.
#[tokio::test]
async fn a_folder_behind_a_link_is_exchanged() {
    let (vhost, folder, config) = backstage("watch-links", "", &[]).await;
    let manifest = WORKER.replace('@', &vhost.unique(""));
    let (first, second) = (manifest.clone(), manifest.replace("attempts = 1", "attempts = 2"));
    let config = config.plugin_bytes("stamped.wasm", &version(0, "good")).prepare(move |folder| {
        let manifests = folder.join("manifests");
        for (name, text) in [("..one", &first), ("..two", &second)] {
            fs::create_dir(manifests.join(name)).unwrap();
            fs::write(manifests.join(name).join("w.toml"), text).unwrap();
        }
        symlink("..one", manifests.join("..data")).unwrap();
        symlink("..data/w.toml", manifests.join("w.toml")).unwrap();
    });
    let stage = curtain(vhost, folder, config).await;
    let manifests = stage.host.manifests();
    symlink("..two", manifests.join("..data_tmp")).unwrap();
    fs::rename(manifests.join("..data_tmp"), manifests.join("..data")).unwrap();
    assert_eq!(wait_for(&stage.host, "w", "swapped").await["reason"], "failure");
    // The whole folder is another one.
    let old = stage.host.folder().join("old");
    let new = stage.host.folder().join("new");
    fs::create_dir(&new).unwrap();
    fs::write(new.join("w.toml"), stage.named(&WORKER.replace("attempts = 1", "attempts = 3"))).unwrap();
    fs::rename(&manifests, &old).unwrap();
    symlink("new", &manifests).unwrap();
    let swaps = async |count: usize| {
        wait_until(DEADLINE, format!("{count} swaps"), async || {
            let entries = history(&stage.host, "w").await;
            let swaps = entries.iter().filter(|entry| entry["event"] == "swapped").count();
            if swaps == count { Ok(()) } else { Err(format!("{entries:#?}")) }
        })
        .await;
    };
    swaps(2).await;
    // And what changes in there is seen.
    put(&new.join("w.toml"), stage.named(&WORKER.replace("attempts = 1", "attempts = 4")).as_bytes());
    swaps(3).await;
    assert!(history(&stage.host, "w").await.iter().all(|entry| entry["event"] != "stopped"));
}

#[tokio::test]
async fn a_burst_is_one_change() {
    let stage = stage("watch-burst", "", WORKER).await;
    for number in 1..=1000 {
        fs::write(stage.host.plugins().join(format!("{number}.tmp")), "x").unwrap();
        fs::write(stage.host.manifests().join(format!(".{number}.toml.swp")), "x").unwrap();
    }
    let bytes = version(1000, "good");
    put(&plugin(&stage.host), &bytes);
    wait_for_version(&stage.host, "w", &bytes).await;
    let found: Vec<_> = events(&stage.host, "w").await.into_iter().map(|(event, _)| event).collect();
    assert_eq!(found, ["started", "swapped"]);
    assert_eq!(stage.host.get("/workers").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_lies_in_subfolders_does_not_matter() {
    let stage = stage("watch-sub", "", WORKER).await;
    let source = stage.host.plugins().join("src/stamped");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("stamped.wasm"), version(1, "good")).unwrap();
    fs::create_dir(stage.host.manifests().join("gallery")).unwrap();
    fs::write(stage.host.manifests().join("gallery/x.toml"), stage.named(&WORKER.replace("@work", "@other"))).unwrap();
    let two = version(2, "good");
    put(&plugin(&stage.host), &two);
    wait_for_version(&stage.host, "w", &two).await;
    let workers = stage.host.get("/workers").await;
    assert_eq!(workers.as_array().unwrap().len(), 1, "{workers}");
}

#[tokio::test]
async fn without_events_it_is_looked_for() {
    let settings = "[reload]\nwatch = \"poll\"\npoll = \"200ms\"\n";
    let stage = stage("watch-poll", settings, WORKER).await;
    let one = version(1, "good");
    fs::write(plugin(&stage.host), &one).unwrap();
    wait_for_version(&stage.host, "w", &one).await;
    put(
        &stage.host.manifests().join("w.toml"),
        stage.named(&WORKER.replace("attempts = 1", "attempts = 2")).as_bytes(),
    );
    wait_until(DEADLINE, "the manifest to be followed", async || {
        let last = history(&stage.host, "w").await.pop().unwrap();
        if last["reason"] == "failure" { Ok(()) } else { Err(last.to_string()) }
    })
    .await;
    fs::remove_file(stage.host.manifests().join("w.toml")).unwrap();
    wait_for(&stage.host, "w", "stopped").await;
}
