//! Languages: each is a folder of the SDK with a `language.toml`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{
    Error, is_source,
    script::{Ended, run},
};

/// How long one look for a tool, or at its version, may take. A compiler that is a Python program needs a second.
const LOOK_TIME: Duration = Duration::from_secs(30);

/// The file that makes a folder of the SDK a language.
const FILE: &str = "language.toml";

/// A language that handlers can be written in.
#[derive(Debug, Clone, PartialEq)]
pub struct Language {
    /// The folder's name, by which the command line knows it.
    pub id: String,
    /// The folder.
    pub folder: PathBuf,
    /// What `language.toml` says.
    pub file: File,
}

/// A `language.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The name for people.
    pub title: String,
    /// A folder of sources that has a file of this name is of this language.
    pub marker: String,
    /// A command that prints the compiler's version.
    pub version: String,
    /// Other folders of the SDK that its plugins are made of.
    #[serde(default)]
    pub uses: Vec<String>,
    /// What compiling takes.
    #[serde(default)]
    pub tools: Vec<Tool>,
}

/// A program or a library that compiling takes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// What it is called.
    pub name: String,
    /// A command that fails where it is missing.
    pub check: String,
    /// How it is installed, for a person to read.
    pub install: String,
}

/// What is there of a language's tools.
#[derive(Debug)]
pub struct Tools {
    /// Those that are missing.
    pub lacking: Vec<Tool>,
    /// The compiler's version, where nothing is missing and it says one.
    pub version: Option<String>,
}

/// All languages of an SDK folder, by their names.
///
/// # Errors
///
/// Where the folder or a `language.toml` cannot be read, or two languages have the same marker.
pub fn all(sdk: &Path) -> Result<Vec<Language>, Error> {
    let mut languages = Vec::new();
    for entry in fs::read_dir(sdk).map_err(Error::io("read", sdk))? {
        let folder = entry.map_err(Error::io("read", sdk))?.path();
        let id = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let path = folder.join(FILE);
        if !is_source(&id) || !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let file = parse(&text).map_err(|reason| Error::Language { path, reason })?;
        languages.push(Language { id, folder, file });
    }
    languages.sort_by(|a, b| a.id.cmp(&b.id));
    let mut markers = BTreeMap::new();
    for language in &languages {
        if let Some(other) = markers.insert(&language.file.marker, &language.id) {
            let path = language.folder.join(FILE);
            let reason = format!("its marker `{}` is that of `{other}`, too", language.file.marker);
            return Err(Error::Language { path, reason });
        }
    }
    Ok(languages)
}

/// Reads a `language.toml`.
///
/// # Errors
///
/// With the reason, and the line where there is one.
fn parse(text: &str) -> Result<File, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    let named = [("title", &file.title), ("marker", &file.marker), ("version", &file.version)];
    if let Some((key, _)) = named.iter().find(|(_, value)| value.is_empty()) {
        return Err(format!("`{key}` is empty"));
    }
    let paths = file.uses.iter().chain([&file.marker]);
    if let Some(path) = paths.into_iter().find(|name| name.contains('/') || name.starts_with('.')) {
        return Err(format!("`{path}` is no plain name"));
    }
    Ok(file)
}

impl Language {
    /// Its template for a new handler.
    pub fn template(&self) -> PathBuf {
        self.folder.join("template")
    }

    /// Its script that compiles a handler.
    pub fn build(&self) -> PathBuf {
        self.folder.join("build")
    }

    /// Looks for its tools.
    ///
    /// # Errors
    ///
    /// Where no shell can be started at all.
    pub async fn lacking(&self, stop: &CancellationToken) -> Result<Vec<Tool>, Error> {
        let mut lacking = Vec::new();
        for tool in &self.file.tools {
            let mut command = self.shell(&tool.check);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            match run(command, LOOK_TIME, stop).await.map_err(Error::io("run bash in", &self.folder))? {
                Ended::Exit(status) if status.success() => {}
                _ => lacking.push(tool.clone()),
            }
        }
        Ok(lacking)
    }

    /// Looks for its tools, and asks for the version.
    ///
    /// # Errors
    ///
    /// Where no shell can be started at all.
    pub async fn tools(&self, stop: &CancellationToken) -> Result<Tools, Error> {
        let lacking = self.lacking(stop).await?;
        let version = if lacking.is_empty() { self.version().await } else { None };
        Ok(Tools { lacking, version })
    }

    /// The compiler's version, where it says one.
    pub async fn version(&self) -> Option<String> {
        let mut command = self.shell(&self.file.version);
        command.stderr(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LOOK_TIME, command.output()).await.ok()?.ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        output.status.success().then(|| line.to_owned())
    }

    fn shell(&self, text: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", text]).current_dir(&self.folder).stdin(Stdio::null());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "title = \"T\"\nmarker = \"x.t\"\nversion = \"echo 1\"\n";

    #[test]
    fn a_language_is_read() {
        let tools =
            "uses = [\"base\"]\ntools = [{ name = \"t\", check = \"true\", install = \"apt-get install t\" }]\n";
        let file = parse(&format!("{GOOD}{tools}")).unwrap();
        assert_eq!((file.title.as_str(), file.marker.as_str(), file.uses.len()), ("T", "x.t", 1));
        assert_eq!(file.tools.first().map(|tool| tool.install.as_str()), Some("apt-get install t"));
        assert!(parse(GOOD).unwrap().tools.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, parts) in [
            (GOOD.replace("marker", "maker"), &["line 2", "unknown field `maker`", "`marker`"][..]),
            (GOOD.replace("\"T\"", "1"), &["line 1", "invalid type: integer `1`, expected a string"]),
            (GOOD.replace("title = \"T\"\n", ""), &["missing field `title`"]),
            (GOOD.replace("\"T\"", "\"\""), &["`title` is empty"]),
            (GOOD.replace("x.t", "../x"), &["`../x` is no plain name"]),
            (format!("{GOOD}tools = [{{ name = \"t\", check = \"true\" }}]"), &["line 4", "missing field `install`"]),
            (format!("{GOOD}tools = [{{"), &["line 4"]),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[tokio::test]
    async fn the_folder_is_asked() {
        let sdk = tempfile::tempdir().unwrap();
        let write = |id: &str, text: &str| {
            fs::create_dir_all(sdk.path().join(id)).unwrap();
            fs::write(sdk.path().join(id).join(FILE), text).unwrap();
        };
        fs::create_dir(sdk.path().join("wit")).unwrap();
        let checks = "tools = [{ name = \"here\", check = \"test -f language.toml\", install = \"\" }, \
                      { name = \"gone\", check = \"echo noise; test -f gone\", install = \"make it\" }]\n";
        write("b", &format!("{GOOD}{checks}"));
        write("a", &GOOD.replace("x.t", "y.t").replace("echo 1", "echo; echo ' one 1 '; echo two"));

        let languages = all(sdk.path()).unwrap();
        assert_eq!(languages.iter().map(|language| language.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let stop = CancellationToken::new();
        let [a, b] = [languages[0].tools(&stop).await.unwrap(), languages[1].tools(&stop).await.unwrap()];
        assert_eq!((a.lacking.len(), a.version.as_deref()), (0, Some("one 1")));
        assert_eq!(b.lacking.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["gone"]);
        assert_eq!(b.version, None);

        write("c", GOOD);
        let error = all(sdk.path()).unwrap_err().to_string();
        assert!(error.ends_with("c/language.toml` cannot be used: its marker `x.t` is that of `b`, too"), "{error}");
    }
}
