//! Compiling plugins: side by side, only what changed, and each by the script of its language.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use futures_util::stream::{self, StreamExt as _};
use tokio::{process::Command, sync::OnceCell};
use tokio_util::sync::CancellationToken;
use wasm_metadata::AddMetadata;

use super::{
    Error,
    changes::{Files, Stamp, compiled, files, together},
    language::{self, Language, Tool},
    scenarios,
    script::{Ended, run},
    sources::{self, Source, clashes},
};
use crate::sandbox::Digest;

/// How long one compiler may take. The first time it may have to build a whole runtime.
const SCRIPT_TIME: Duration = Duration::from_secs(15 * 60);

/// How often a build looks whether another one has ended.
const LOCK_LOOK: Duration = Duration::from_millis(100);

/// In the folder of sources: what is kept from one build to the next.
pub(super) const KEPT: &str = ".build";

/// Of a plugin's own folder, what it is not made of.
const NOT_IN_PLUGIN: &[&str] = &[scenarios::FOLDER];

/// Of a language's folder, what its plugins are not made of.
const NOT_IN_PLUGINS: &[&str] = &["template", "conformance", "test", "README.md"];

/// What is to be compiled, and how.
#[derive(Debug, Clone)]
pub struct Build {
    /// The folder of SDKs.
    pub sdk: PathBuf,
    /// The folder with a folder for each plugin.
    pub sources: PathBuf,
    /// Where compiled plugins go.
    pub plugins: PathBuf,
    /// Which plugins.
    pub wanted: Wanted,
    /// How many are compiled at once.
    pub jobs: usize,
    /// Whether what did not change is compiled, too.
    pub force: bool,
}

/// Which plugins are compiled.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Those of these names, in kebab case or snake case, or all where none is named. One without sources is an error.
    Named(Vec<String>),
    /// Those whose files have these names. One without sources comes from elsewhere.
    Files(BTreeSet<String>),
}

/// What happens to a plugin.
#[derive(Debug)]
pub enum Event {
    /// Another build has to end first.
    Waiting,
    /// Its compiler starts.
    Begun(String),
    /// Nothing more will happen to the plugin of that name.
    Ended(String, Result<Built, NotBuilt>),
}

/// A plugin that is as its sources are.
#[derive(Debug)]
pub enum Built {
    /// Its file was there already.
    Unchanged,
    /// Its file is new, or was compiled to what it was.
    Compiled {
        /// The file.
        file: PathBuf,
        /// Its size.
        bytes: usize,
        /// How long the compiler took; none where it had been compiled before, and only the file was missing.
        took: Option<Duration>,
    },
}

/// Why a plugin is not compiled.
#[derive(Debug)]
pub enum NotBuilt {
    /// Tools of its language, with this title, are missing.
    Lacking(String, Vec<Tool>),
    /// The compiler failed; what it said is in the file.
    Failed(String, PathBuf),
    /// Something else is wrong.
    Error(String),
    /// Everything was to stop.
    Stopped,
}

impl From<Error> for NotBuilt {
    fn from(error: Error) -> Self {
        Self::Error(error.to_string())
    }
}

impl Build {
    /// Compiles all of it, and says what happens.
    ///
    /// # Errors
    ///
    /// Where the folders are not what they have to be; no compiler has been started then. What is wrong with a single
    /// plugin is told in its event.
    pub async fn run(&self, stop: &CancellationToken, told: &impl Fn(Event)) -> Result<(), Error> {
        let languages = language::all(&self.sdk)?;
        let all = sources::list(&self.sources)?;
        let chosen = match &self.wanted {
            Wanted::Named(names) => sources::chosen(&all, names).map_err(Error::Other)?,
            Wanted::Files(files) => all.iter().filter(|source| files.contains(&source.file)).collect(),
        };
        let clashes = clashes(&all);
        if chosen.is_empty() {
            return Ok(());
        }
        fs::create_dir_all(&self.plugins).map_err(Error::io("make", &self.plugins))?;
        let [sdk, kept] = [self.sdk.clone(), self.sources.join(KEPT)];
        fs::create_dir_all(&kept).map_err(Error::io("make", &kept))?;
        fs::write(kept.join(".gitignore"), "*\n").map_err(Error::io("write", &kept))?;
        let Some(_lock) = self.lock(&kept, stop, told).await? else { return Ok(()) };
        // Scripts run elsewhere.
        let [sdk, kept] = [sdk, kept].map(|path| path.canonicalize().map_err(Error::io("find", &path)));
        let workshop = Workshop {
            build: self,
            kept: kept?,
            sdk: sdk?,
            looks: languages.iter().map(|language| (language.id.as_str(), Look::default())).collect(),
            languages: &languages,
            stop,
            told,
        };
        let compiling = stream::iter(chosen).map(async |source| {
            let result = match clashes.get(source.name.as_str()) {
                Some(names) => Err(NotBuilt::Error(format!(
                    "`{}` would be the file of each of {}",
                    source.file,
                    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                ))),
                None => workshop.one(source).await,
            };
            told(Event::Ended(source.name.clone(), result));
        });
        compiling.buffer_unordered(self.jobs.max(1)).collect::<()>().await;
        Ok(())
    }

    /// Two builds at once would write the same files: the second waits. None where everything is to stop.
    async fn lock(&self, kept: &Path, stop: &CancellationToken, told: &impl Fn(Event)) -> Result<Option<File>, Error> {
        let path = kept.join(".lock");
        let file = File::create(&path).map_err(Error::io("write", &path))?;
        let mut is_told = false;
        while !stop.is_cancelled() {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !is_told {
                told(Event::Waiting);
                is_told = true;
            }
            // Not `lock`, which no Ctrl-C would end.
            tokio::time::sleep(LOCK_LOOK).await;
        }
        Ok(None)
    }
}

/// What is found out once for each language, and only where a plugin needs it.
#[derive(Default)]
struct Look {
    sdk: OnceCell<Digest>,
    lacking: OnceCell<Vec<Tool>>,
}

struct Workshop<'b, F> {
    build: &'b Build,
    sdk: PathBuf,
    kept: PathBuf,
    languages: &'b [Language],
    looks: BTreeMap<&'b str, Look>,
    stop: &'b CancellationToken,
    told: &'b F,
}

impl<F: Fn(Event)> Workshop<'_, F> {
    async fn one(&self, source: &Source) -> Result<Built, NotBuilt> {
        if self.stop.is_cancelled() {
            return Err(NotBuilt::Stopped);
        }
        let language = sources::language(self.languages, |marker| source.folder.join(marker).is_file())
            .map_err(NotBuilt::Error)?;
        let Some(look) = self.looks.get(language.id.as_str()) else {
            return Err(NotBuilt::Error(format!("there is no language `{}`", language.id)));
        };
        let folder = source.folder.canonicalize().map_err(Error::io("find", &source.folder))?;
        let sdk = *look.sdk.get_or_try_init(async || self.sdk_digest(language)).await?;
        let inputs = |files: &Files| Digest::of(format!("{sdk} {}", together([("", files)])).as_bytes()).to_string();

        let work = self.kept.join(&source.name);
        fs::create_dir_all(&work).map_err(Error::io("make", &work))?;
        let (out, stamp) = (work.join("out.wasm"), work.join(".stamp"));
        let before = files(&folder, NOT_IN_PLUGIN)?;
        if !self.build.force
            && let Some(last) = Stamp::read(&stamp)
            && last.inputs == inputs(&before)
            && let Some(bytes) = read(&out)?
            && Digest::of(&bytes).to_string() == last.output
        {
            return Ok(self.place(source, &out, &bytes, None)?);
        }

        let lacking = look.lacking.get_or_try_init(|| language.lacking(self.stop)).await?;
        if self.stop.is_cancelled() {
            return Err(NotBuilt::Stopped);
        }
        if !lacking.is_empty() {
            return Err(NotBuilt::Lacking(language.file.title.clone(), lacking.clone()));
        }
        for path in [&out, &stamp] {
            remove(path)?;
        }
        (self.told)(Event::Begun(source.name.clone()));
        let start = Instant::now();
        self.compile(language, &folder, &work, &out).await?;
        let took = start.elapsed();
        name_language(language, &out).await?;
        let Some(bytes) = read(&out)? else {
            return Err(NotBuilt::Failed("the compiler ended well, and left no file".into(), work.join(".log")));
        };
        let inputs = inputs(&compiled(&before, &files(&folder, NOT_IN_PLUGIN)?));
        let built = self.place(source, &out, &bytes, Some(took))?;
        Stamp { inputs, output: Digest::of(&bytes).to_string() }.write(&stamp)?;
        Ok(built)
    }

    /// All of the SDK that a plugin in this language is made of.
    fn sdk_digest(&self, language: &Language) -> Result<Digest, Error> {
        let mut all = vec![("wit", files(&self.sdk.join("wit"), &[])?)];
        for id in language.file.uses.iter().chain([&language.id]) {
            all.push((id, files(&self.sdk.join(id), NOT_IN_PLUGINS)?));
        }
        Ok(together(all.iter().map(|(id, files)| (*id, files))))
    }

    async fn compile(&self, language: &Language, folder: &Path, work: &Path, out: &Path) -> Result<(), NotBuilt> {
        let log = work.join(".log");
        let output = File::create(&log).map_err(Error::io("write", &log))?;
        let both = output.try_clone().map_err(Error::io("write", &log))?;
        let script = self.sdk.join(&language.id).join("build");
        let mut command = Command::new(&script);
        command.arg(folder).arg(out).env("WABBIT_BUILD_DIR", work);
        command.stdin(Stdio::null()).stdout(output).stderr(both);
        match run(command, SCRIPT_TIME, self.stop).await.map_err(Error::io("run", &script))? {
            Ended::Exit(status) if status.success() => Ok(()),
            Ended::Exit(status) => Err(NotBuilt::Failed(format!("the compiler {}", ending(status)), log)),
            Ended::Overran => {
                let minutes = SCRIPT_TIME.as_secs() / 60;
                Err(NotBuilt::Failed(format!("the compiler took more than {minutes} minutes"), log))
            }
            Ended::Stopped => Err(NotBuilt::Stopped),
        }
    }

    /// Puts a compiled plugin where the host looks. A host may be watching: a file that is the same is left alone,
    /// another appears whole or not at all.
    fn place(&self, source: &Source, out: &Path, bytes: &[u8], took: Option<Duration>) -> Result<Built, Error> {
        let plugins = &self.build.plugins;
        let file = plugins.join(&source.file);
        let is_same = read(&file)?.is_some_and(|old| old == bytes);
        if is_same && took.is_none() {
            return Ok(Built::Unchanged);
        }
        if !is_same {
            let aside = tempfile::Builder::new().prefix(".new-").tempfile_in(plugins);
            let aside = aside.map_err(Error::io("make a file in", plugins))?;
            // With the modes that the compiler gave it, since a temporary file is for its owner alone.
            fs::copy(out, aside.path()).map_err(Error::io("copy", out))?;
            aside.persist(&file).map_err(|error| error.error).map_err(Error::io("write", &file))?;
        }
        Ok(Built::Compiled { file, bytes: bytes.len(), took })
    }
}

/// Has the file say which language it was written in, and by what it was compiled: most compilers say nothing, and some
/// name the language of their own engine. What is no wasm is left as it is, for the host to refuse.
async fn name_language(language: &Language, out: &Path) -> Result<(), Error> {
    let Some(bytes) = read(out)? else { return Ok(()) };
    let mut metadata = AddMetadata::default();
    metadata.language = vec![(language.file.title.clone(), String::new())];
    metadata.processed_by = language.version().await.into_iter().map(|version| (version, String::new())).collect();
    match metadata.to_wasm(&bytes) {
        Ok(named) => fs::write(out, named).map_err(Error::io("write", out)),
        Err(_) => Ok(()),
    }
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("failed with exit code {code}"),
        None => format!("was ended: {status}"),
    }
}

/// What is in a file, if it is there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(Error::io("read", path)),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
