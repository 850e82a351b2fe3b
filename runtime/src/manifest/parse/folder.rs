//! All manifests of a folder, each by itself and then side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::parse_with_places;
use crate::manifest::{
    Ceilings, Folder, Manifest,
    read::text_in,
    report::{Place, Problem},
    values::quoted,
};

/// More files than these in one folder are taken for a mistake.
const FILES_MAX: usize = 10_000;
/// Of the other workers on a queue, so many are named.
const OTHERS_SHOWN: usize = 3;

/// Reads every `*.toml` that lies directly in the folder, if its path is `wanted`. A bad one is reported and left out; the
/// error is about the folder itself.
pub fn read_folder(folder: &Path, ceilings: &Ceilings, wanted: impl Fn(&Path) -> bool) -> io::Result<Folder> {
    let mut manifests = Vec::new();
    let mut problems = BTreeMap::new();
    for path in files(folder)?.into_iter().filter(|path| wanted(path)) {
        // A file that was deleted since the folder was listed is no manifest any more; a link to nothing is one.
        let text = match text_in(folder, Path::new(path.file_name().unwrap_or_default())) {
            Err(_) if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => continue,
            text => text.map_err(|problem| vec![problem]),
        };
        match text.and_then(|text| parse_with_places(&path, &text, ceilings)) {
            Ok(manifest) => manifests.push(manifest),
            Err(found) => _ = problems.insert(path, found),
        }
    }
    let shared = shared_queues(&manifests);
    let manifests = manifests.into_iter().map(|(manifest, _)| manifest);
    let manifests = manifests.filter(|manifest| !shared.contains_key(&manifest.path)).collect();
    problems.extend(shared);
    Ok(Folder { manifests, problems })
}

/// The files of plugins that manifests name, also those manifests with which something else is wrong.
pub(crate) fn plugins_named(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut plugins = BTreeSet::new();
    for path in files(folder)? {
        let Ok(text) = text_in(folder, Path::new(path.file_name().unwrap_or_default())) else { continue };
        let Ok(top) = text.parse::<toml::Table>() else { continue };
        plugins.extend(top.get("plugin").and_then(toml::Value::as_str).map(str::to_owned));
    }
    Ok(plugins)
}

/// The manifests' paths, sorted. What editors leave beside a file while it is changed is passed over.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.ends_with(".toml") || name.starts_with(['.', '#']) || path.is_dir() {
            continue;
        }
        if paths.len() == FILES_MAX {
            return Err(io::Error::other(format!("more than {FILES_MAX} manifests in `{}`", folder.display())));
        }
        paths.push(path);
    }
    paths.sort();
    Ok(paths)
}

/// A queue has one handler. All manifests that name the same one are at fault, so that it does not depend on their
/// order which of them runs.
fn shared_queues(manifests: &[(Manifest, Vec<Option<Place>>)]) -> BTreeMap<PathBuf, Vec<Problem>> {
    let mut claims: BTreeMap<&str, Vec<(&Manifest, &Option<Place>)>> = BTreeMap::new();
    for (manifest, places) in manifests {
        for (queue, place) in manifest.queues.iter().zip(places) {
            // Those that the server names are all different.
            if !queue.name.is_empty() {
                claims.entry(&queue.name).or_default().push((manifest, place));
            }
        }
    }
    let mut problems: BTreeMap<PathBuf, Vec<Problem>> = BTreeMap::new();
    for (queue, claims) in claims.iter().filter(|(_, claims)| claims.len() > 1) {
        for (manifest, place) in claims {
            let others = claims.iter().filter(|(other, _)| other.path != manifest.path);
            let others: BTreeSet<_> = others.take(OTHERS_SHOWN).map(|(other, place)| located(other, place)).collect();
            let others = Vec::from_iter(others).join(", ");
            let problem = Problem::new(format!("queue {} has more than one worker", quoted(queue)))
                .hint(format!("a queue has one handler; this one is also in {others}"))
                .at((*place).clone());
            problems.entry(manifest.path.clone()).or_default().push(problem);
        }
    }
    problems
}

fn located(manifest: &Manifest, place: &Option<Place>) -> String {
    let line = place.as_ref().map_or(String::new(), |place| format!(":{}", place.line));
    format!("`{}{line}`", manifest.path.display())
}
