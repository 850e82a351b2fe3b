//! A new plugin: a language's template, filled in, and its manifest.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use super::{
    Error, is_source,
    language::Language,
    name::{Name, snake},
};

/// The queue that every template publishes its greetings to.
const GREETINGS: &str = "greetings";

/// What was made.
#[derive(Debug, PartialEq)]
pub struct Made {
    /// The folder of its sources.
    pub sources: PathBuf,
    /// Its manifest.
    pub manifest: PathBuf,
}

/// Makes a plugin's sources and its manifest. Where something of that name is there already, nothing is made.
///
/// # Errors
///
/// Where the name is taken, or nothing can be written.
pub fn scaffold(language: &Language, name: &Name, sdk: &Path, sources: &Path, manifests: &Path) -> Result<Made, Error> {
    let made =
        Made { sources: sources.join(name.as_str()), manifest: manifests.join(format!("{}.toml", name.as_str())) };
    if name.as_str() == GREETINGS {
        return Err(Error::Other(format!(
            "`{GREETINGS}` is the queue that a new handler publishes to; choose another name"
        )));
    }
    let taken = taken(sources, name)?.or_else(|| made.manifest.exists().then(|| made.manifest.clone()));
    if let Some(taken) = taken {
        return Err(Error::Other(format!("`{}` is there already", taken.display())));
    }
    for folder in [sources, manifests] {
        fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
    }
    let [from, to] = [sources, sdk].map(|path| path.canonicalize().map_err(Error::io("find", path)));
    let sdk = relative(&from?.join(name.as_str()), &to?);
    let Some(sdk) = sdk.to_str() else {
        return Err(Error::Other(format!("the way to `{}` is not UTF-8", sdk.display())));
    };
    let values = [("{{name}}", name.as_str()), ("{{snake}}", &name.snake()), ("{{sdk}}", sdk)];

    // Aside first, so that there is all of it or nothing.
    let aside =
        tempfile::Builder::new().prefix(".new-").tempdir_in(sources).map_err(Error::io("make a folder in", sources))?;
    let copy = aside.path().join("copy");
    copy_filled(&language.template(), &copy, &values)?;
    fs::rename(&copy, &made.sources).map_err(Error::io("write", &made.sources))?;
    fs::write(&made.manifest, manifest(name)).map_err(Error::io("write", &made.manifest))?;
    Ok(made)
}

/// A folder whose plugin would have the same file.
fn taken(sources: &Path, name: &Name) -> Result<Option<PathBuf>, Error> {
    let Ok(entries) = fs::read_dir(sources) else { return Ok(None) };
    for entry in entries {
        let path = entry.map_err(Error::io("read", sources))?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|other| snake(other) == name.snake()) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The manifest of a handler that is as its template made it.
fn manifest(name: &Name) -> String {
    let (name, snake) = (name.as_str(), name.snake());
    format!(
        "plugin = \"{snake}.wasm\"\n\n\
         # What it consumes.\n[[queue]]\nname = \"{name}\"\n\n\
         # What its greetings go to, for somebody else to read.\n[[queue]]\nname = \"{GREETINGS}\"\nconsume = false\n\n\
         [grant]\npublish = [\"/{GREETINGS}\"]\n"
    )
}

/// Copies a template with its values filled in, in contents and in names of files. A name's suffix `.in` is dropped: it
/// keeps a file of a template from being taken for the real one by the tools of its language.
fn copy_filled(from: &Path, to: &Path, values: &[(&str, &str)]) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::io("make", to))?;
    for entry in fs::read_dir(from).map_err(Error::io("read", from))? {
        let path = entry.map_err(Error::io("read", from))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| is_source(name)) else {
            continue;
        };
        let target = to.join(fill(name.strip_suffix(".in").unwrap_or(name), values));
        if path.is_dir() {
            copy_filled(&path, &target, values)?;
            continue;
        }
        // With its mode.
        fs::copy(&path, &target).map_err(Error::io("copy", &path))?;
        // What is no text has no values in it.
        if let Ok(text) = fs::read_to_string(&path) {
            fs::write(&target, fill(&text, values)).map_err(Error::io("write", &target))?;
        }
    }
    Ok(())
}

fn fill(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
}

/// The way from one folder to another; both are absolute, without `.`, `..` and links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{
        manifest::{Ceilings, read_folder},
        project::language,
    };

    const VALUES: &[(&str, &str)] = &[("{{name}}", "a-b"), ("{{snake}}", "a_b"), ("{{sdk}}", "../sdk")];

    #[test]
    fn values_are_filled_in() {
        for (text, filled) in [
            ("name = \"{{name}}\" # {{snake}}", "name = \"a-b\" # a_b"),
            ("{{sdk}}/rust {{name}}{{name}}", "../sdk/rust a-ba-b"),
            ("{{other}} {name} { {name}}", "{{other}} {name} { {name}}"),
        ] {
            assert_eq!(fill(text, VALUES), filled);
        }
    }

    #[test]
    fn the_way_to_the_sdk_is_relative() {
        for (from, to, way) in [
            ("/p/plugins/src/a", "/p/sdk", "../../../sdk"),
            ("/p/plugins/src/a", "/q/r/sdk", "../../../../q/r/sdk"),
            ("/p/a", "/p/a/sdk", "sdk"),
            ("/p/ab", "/p/a", "../a"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way));
        }
    }

    /// A project with one language.
    fn project() -> (tempfile::TempDir, Language) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sdk/fake");
        fs::create_dir_all(folder.join("template/{{snake}}")).unwrap();
        fs::create_dir_all(folder.join("template/target")).unwrap();
        fs::write(folder.join("language.toml"), "title = \"F\"\nmarker = \"f.toml\"\nversion = \"true\"\n").unwrap();
        fs::write(folder.join("template/f.toml.in"), "{{name}} {{sdk}}\n").unwrap();
        fs::write(folder.join("template/{{snake}}/run"), "#!/bin/sh\n").unwrap();
        fs::write(folder.join("template/data"), [0xff, b'{', b'{']).unwrap();
        fs::set_permissions(folder.join("template/{{snake}}/run"), fs::Permissions::from_mode(0o755)).unwrap();
        let language = language::all(&root.path().join("sdk")).unwrap().remove(0);
        (root, language)
    }

    #[test]
    fn a_plugin_is_made_once() {
        let (root, language) = project();
        let [sdk, sources, manifests] = ["sdk", "plugins/src", "manifests"].map(|path| root.path().join(path));
        let make = |name: &str| scaffold(&language, &Name::parse(name).unwrap(), &sdk, &sources, &manifests);
        let made = make("order_mail").unwrap();
        assert_eq!(made, Made { sources: sources.join("order-mail"), manifest: manifests.join("order-mail.toml") });
        let read = |path: &str| fs::read(made.sources.join(path)).unwrap();
        assert_eq!(read("f.toml"), b"order-mail ../../../sdk\n");
        assert_eq!(read("data"), [0xff, b'{', b'{']);
        assert!(!made.sources.join("target").exists());
        let mode = fs::metadata(made.sources.join("order_mail/run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);

        // Nothing is written over, and nothing is left aside.
        for (name, taken) in [("order-mail", "src/order-mail"), ("order_mail", "src/order-mail")] {
            let error = make(name).unwrap_err().to_string();
            assert!(error.ends_with(&format!("{taken}` is there already")), "{error}");
        }
        fs::write(manifests.join("other.toml"), "").unwrap();
        assert!(make("other").unwrap_err().to_string().ends_with("other.toml` is there already"));
        assert!(!sources.join("other").exists());
        fs::create_dir(sources.join("by_hand")).unwrap();
        assert!(make("by-hand").unwrap_err().to_string().ends_with("src/by_hand` is there already"));
        assert!(make("greetings").unwrap_err().to_string().contains("choose another name"));
        assert_eq!(fs::read_dir(&sources).unwrap().count(), 2);
    }

    #[test]
    fn the_manifests_of_several_go_together() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["hello", "order-mail"] {
            let text = manifest(&Name::parse(name).unwrap());
            fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
        }
        let read = read_folder(folder.path(), &Ceilings::of_memory(usize::MAX), |_| true).unwrap();
        assert!(read.problems.is_empty(), "{:?}", read.problems);
        let queues: Vec<_> = read.manifests.iter().map(|manifest| manifest.queues[0].name.as_str()).collect();
        assert_eq!(queues, ["hello", "order-mail"]);
        assert_eq!(read.manifests[1].plugin, "order_mail.wasm");
        assert_eq!(read.manifests[1].other_queues[0].name, GREETINGS);
    }
}
