//! The text of a file, with a bound on its size.

use std::{io, path::Path};

use crate::{
    folder::{self, Unread},
    manifest::report::{Place, Problem},
};

/// The largest file that is read, 1 MiB: a thousand times what a manifest takes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a file holds, if it is a regular file of a sensible size in UTF-8. Links are followed.
pub(crate) fn text_of(path: &Path) -> Result<String, Problem> {
    text(folder::read(path, FILE_BYTES_MAX))
}

/// The same of a file in a folder, which no link leads out of.
pub(crate) fn text_in(folder: &Path, name: &Path) -> Result<String, Problem> {
    text(folder::read_in(folder, name, FILE_BYTES_MAX))
}

fn text(read: Result<Vec<u8>, Unread>) -> Result<String, Problem> {
    let bytes = read.map_err(|unread| match unread {
        Unread::Io(error) if error.kind() == io::ErrorKind::NotFound => Problem::new("does not exist"),
        Unread::Io(error) => Problem::new(format!("cannot be read: {}", error.kind())),
        Unread::NotRegular => Problem::new("not a regular file"),
        Unread::Outside => Problem::new("a link that leads out of its folder").hint("put the file itself there"),
        Unread::TooLarge(_) => Problem::new(format!("larger than {FILE_BYTES_MAX} bytes")),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        Problem::new("not UTF-8").at(Some(Place::of(&text, valid..valid + 1)))
    })
}
