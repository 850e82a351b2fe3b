//! A handler that does with its folders what its delivery says, by the standard library or straight through WASI, and
//! publishes what came of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
};

use serde::Deserialize;
use serde_json::{Value, json};
use wabbit_sdk::{Delivery, Error, Outcome, Publication};
use wasip2::filesystem::{
    preopens::get_directories,
    types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
};

#[derive(Deserialize)]
struct Command {
    calls: Vec<Call>,
    /// The queue that the answers go to; nowhere where absent.
    to: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Call {
    Read(String),
    Write(String, String),
    Append(String, String),
    /// So many bytes, from this offset.
    Fill(String, u64, usize),
    Length(String, u64),
    List(String),
    Make(String),
    Delete(String),
    Rename(String, String),
    /// Straight through WASI, from the first folder: these paths go past the standard library.
    Raw(Raw),
    /// Fills a file that is deleted while it is open, so many times; how often that worked.
    FillDeleted(usize, usize),
    /// Makes files until that fails; how many there are.
    Entries(usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Raw {
    Read(String),
    Create(String),
    Stat(String),
    Symlink(String, String),
    Link(String, String),
    Rename(String, String),
    /// From the first folder into the second.
    Across(String, String),
    Unlink(String),
    Readlink(String),
    Folders,
    /// Writes through so many streams into one file and waits for none; how many took it.
    Streams(String, u64),
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let Command { calls, to } = delivery.json()?;
    let answers: Vec<_> = calls.into_iter().map(Call::answer).collect();
    let told = to.map(|to| Publication::new("", to).json(&answers)).transpose()?;
    Ok(Outcome::ack().publish_all(told))
}

impl Call {
    fn answer(self) -> Value {
        match self {
            Self::Raw(raw) => raw.run().unwrap_or_else(|code| json!({ "error": code.name() })),
            call => call.run().unwrap_or_else(|error| json!({ "error": error.to_string() })),
        }
    }

    fn run(self) -> io::Result<Value> {
        Ok(match self {
            Self::Read(path) => fs::read_to_string(path)?.into(),
            Self::Write(path, text) => json!(fs::write(path, text)?),
            Self::Append(path, text) => {
                json!(OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())?)
            }
            Self::Fill(path, offset, length) => {
                let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
                file.seek(SeekFrom::Start(offset))?;
                json!(file.write_all(&vec![b'x'; length])?)
            }
            Self::Length(path, length) => {
                json!(OpenOptions::new().write(true).create(true).truncate(false).open(path)?.set_len(length)?)
            }
            Self::List(path) => {
                let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
                let mut names = names.collect::<io::Result<Vec<_>>>()?;
                names.sort();
                names.into()
            }
            Self::Make(path) => json!(fs::create_dir_all(path)?),
            Self::Delete(path) => json!(fs::remove_file(path)?),
            Self::Rename(from, to) => json!(fs::rename(from, to)?),
            Self::FillDeleted(times, length) => {
                let mut open = Vec::new();
                for _ in 0..times {
                    let Ok(mut file) = File::create("/w/deleted") else { break };
                    fs::remove_file("/w/deleted")?;
                    if file.write_all(&vec![b'x'; length]).is_err() {
                        break;
                    }
                    open.push(file);
                }
                open.len().into()
            }
            Self::Entries(most) => (0..most).take_while(|n| File::create(format!("/w/{n}")).is_ok()).count().into(),
            Self::Raw(_) => Value::Null,
        })
    }
}

impl Raw {
    fn run(self) -> Result<Value, ErrorCode> {
        let folders = get_directories();
        let Some((folder, _)) = folders.first() else { return Ok(json!("no folder")) };
        let open = |path: &str, how: OpenFlags, flags: DescriptorFlags| -> Result<Descriptor, ErrorCode> {
            folder.open_at(PathFlags::SYMLINK_FOLLOW, path, how, flags)
        };
        Ok(match self {
            Self::Read(path) => {
                let (bytes, _) = open(&path, OpenFlags::empty(), DescriptorFlags::READ)?.read(1 << 16, 0)?;
                String::from_utf8_lossy(&bytes).into_owned().into()
            }
            Self::Create(path) => {
                json!(open(&path, OpenFlags::CREATE, DescriptorFlags::WRITE)?.write(b"here", 0)?)
            }
            Self::Stat(path) => folder.stat_at(PathFlags::SYMLINK_FOLLOW, &path)?.size.into(),
            Self::Symlink(target, path) => json!(folder.symlink_at(&target, &path)?),
            Self::Link(from, to) => json!(folder.link_at(PathFlags::empty(), &from, folder, &to)?),
            Self::Rename(from, to) => json!(folder.rename_at(&from, folder, &to)?),
            Self::Across(from, to) => match folders.get(1) {
                Some((second, _)) => json!(folder.rename_at(&from, second, &to)?),
                None => json!("one folder"),
            },
            Self::Unlink(path) => json!(folder.unlink_file_at(&path)?),
            Self::Readlink(path) => folder.readlink_at(&path)?.into(),
            Self::Streams(path, count) => {
                let file = open(&path, OpenFlags::CREATE, DescriptorFlags::WRITE)?;
                let streams = (0..count).map(|n| file.write_via_stream(n * 4)).collect::<Result<Vec<_>, _>>()?;
                let took =
                    streams.iter().filter(|stream| stream.check_write().is_ok() && stream.write(b"text").is_ok());
                took.count().into()
            }
            Self::Folders => folders.iter().map(|(_, name)| name.as_str()).collect(),
        })
    }
}
