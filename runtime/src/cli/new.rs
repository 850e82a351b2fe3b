//! `wabbit new`: a new plugin by a language's template, and which languages there are.

use std::path::PathBuf;

use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Failed, SettingsArgs, executor, settings};
use crate::{
    manifest::values::nearest,
    project::{
        language::{self, Language, Tools},
        name::Name,
        scaffold, sdk,
    },
};

/// Looks at the tools of so many languages at once.
const LOOKS_MAX: usize = 4;

#[derive(Args)]
pub(super) struct New {
    /// The language, one of those that `--list` shows
    #[arg(value_name = "LANG", required_unless_present = "list")]
    language: Option<String>,
    /// The plugin's name: lower-case words with `-` or `_` in between
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List the languages, and what each still needs here
    #[arg(long, conflicts_with_all = ["language", "name"])]
    list: bool,
    /// Print JSON
    #[arg(long, requires = "list")]
    json: bool,
    #[command(flatten)]
    sdk: SdkArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Where the SDKs are.
#[derive(Args)]
pub(super) struct SdkArgs {
    /// The folder of SDKs [default: sdk, which is written where there is none]
    #[arg(long, value_name = "DIR", env = "WABBIT_SDK")]
    sdk: Option<PathBuf>,
}

impl SdkArgs {
    /// The folder, which is there; says so where it is new.
    pub(super) fn find(self) -> anyhow::Result<PathBuf> {
        let (folder, is_new) = sdk::find(self.sdk)?;
        if is_new {
            eprintln!("wrote the SDKs into `{}`", folder.display());
        }
        Ok(folder)
    }
}

impl New {
    pub(super) fn execute(self) -> Result<(), Failed> {
        if self.list {
            return list(self.sdk, self.json);
        }
        let (Some(language), Some(name)) = (self.language, self.name) else {
            return Err(Failed::Usage("a language and a name are needed".into()));
        };
        let name = Name::parse(&name).map_err(Failed::Usage)?;
        let settings = settings(&self.settings.overrides())?;
        let sdk = self.sdk.find()?;
        let languages = language::all(&sdk).map_err(anyhow::Error::from)?;
        let language = choose(&languages, &language)?;
        let sources = settings.plugins.join("src");
        let made = scaffold::scaffold(language, &name, &sdk, &sources, &settings.manifests);
        let made = made.map_err(anyhow::Error::from)?;
        println!("{}: a handler in {}, with its test", made.sources.display(), language.file.title);
        println!("{}: what it serves, and what it may do", made.manifest.display());
        let plugin = settings.plugins.join(format!("{}.wasm", name.snake()));
        println!("next:");
        println!("  wabbit build {}", name.as_str());
        println!("  wabbit invoke {} --manifest {} --body Ada", plugin.display(), made.manifest.display());
        Ok(())
    }
}

fn choose<'l>(languages: &'l [Language], id: &str) -> Result<&'l Language, Failed> {
    languages.iter().find(|language| language.id == id).ok_or_else(|| {
        let known: Vec<_> = languages.iter().map(|language| language.id.as_str()).collect();
        let hint = nearest(id, &known).unwrap_or_else(|| format!("there are {}", known.join(", ")));
        Failed::Usage(format!("there is no language `{id}`\nhint: {hint}"))
    })
}

fn list(sdk: SdkArgs, json: bool) -> Result<(), Failed> {
    let (folder, _holder) = sdk::look(sdk.sdk).map_err(anyhow::Error::from)?;
    let languages = language::all(&folder).map_err(anyhow::Error::from)?;
    let stop = CancellationToken::new();
    let looks = stream::iter(&languages).map(|language| language.tools(&stop)).buffered(LOOKS_MAX).try_collect();
    let looks: Vec<_> = executor()?.block_on(looks).map_err(anyhow::Error::from)?;
    if json {
        let rows: Vec<_> = languages.iter().zip(&looks).map(|(language, tools)| row(language, tools)).collect();
        println!("{}", json!(rows));
        return Ok(());
    }
    let width = |text: fn(&Language) -> &str| languages.iter().map(|language| text(language).len()).max().unwrap_or(0);
    let (ids, titles) = (width(|language| &language.id), width(|language| &language.file.title));
    for (language, tools) in languages.iter().zip(&looks) {
        println!("{:ids$}  {:titles$}  {}", language.id, language.file.title, told(tools));
    }
    Ok(())
}

fn row(language: &Language, tools: &Tools) -> serde_json::Value {
    let lacking: Vec<_> =
        tools.lacking.iter().map(|tool| json!({ "name": tool.name, "install": tool.install })).collect();
    json!({
        "language": language.id,
        "title": language.file.title,
        "available": tools.lacking.is_empty(),
        "version": tools.version,
        "lacking": lacking,
    })
}

fn told(tools: &Tools) -> String {
    if tools.lacking.is_empty() {
        return tools.version.clone().unwrap_or_else(|| "all is here".into());
    }
    let lacking = tools.lacking.iter().map(|tool| format!("{} ({})", tool.name, tool.install));
    format!("lacks {}", lacking.collect::<Vec<_>>().join(", "))
}
