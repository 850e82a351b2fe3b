//! The text of a file, with a bound on its size.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use crate::manifest::report::{Place, Problem};

/// The largest file that is read, 1 MiB: a thousand times what a manifest takes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a file holds, if it is a regular file of a sensible size in UTF-8. Links are followed.
pub(crate) fn text_of(path: &Path) -> Result<String, Problem> {
    // Looked at before it is opened, for opening a named pipe waits for its other end.
    let kind = fs::metadata(path).map_err(unreadable)?.file_type();
    if !kind.is_file() {
        return Err(Problem::new("not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Problem::new(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        Problem::new("not UTF-8").at(Some(Place::of(&text, valid..valid + 1)))
    })
}

fn unreadable(error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => Problem::new("does not exist"),
        kind => Problem::new(format!("cannot be read: {kind}")),
    }
}
