//! `wasi:filesystem` within the folders that the manifest grants.
//!
//! Paths are kept inside by wasmtime's own implementation, which everything here goes through; around it stands what it
//! lacks: a bound on what is written.

mod stream;
mod usage;

use std::{collections::HashMap, fs::File, io, path::Path, sync::Arc, time::Duration};

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{Descriptor, Dir, WasiFilesystemCtx, WasiFilesystemCtxView},
    p2::{
        DynOutputStream, FsError, FsResult,
        bindings::filesystem::{
            preopens,
            types::{self, ErrorCode, HostDescriptor, HostDirectoryEntryStream},
        },
    },
};

use super::{determined::Determined, host::Host};
use stream::{FileStream, Writes};
pub use usage::Usage;
use usage::{ENTRY_BYTES, Held};

/// A folder that a handler sees.
#[derive(Clone)]
pub struct Folder {
    guest: String,
    folder: Dir,
    /// Where it may be written to: what it holds, and how many bytes that may be.
    limit: Option<Limit>,
}

#[derive(Clone)]
struct Limit {
    usage: Arc<Usage>,
    max: u64,
}

impl Folder {
    /// A folder that is open, and where the handler sees it. `limit` has what it holds and how much that may be; without
    /// one nothing is written.
    pub fn new(guest: &str, folder: File, limit: Option<(Arc<Usage>, u64)>) -> Self {
        let (perms, mode) = match limit {
            Some(_) => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
            None => (FsPerms::ReadOnly, OpenMode::READ),
        };
        let limit = limit.map(|(usage, max)| Limit { usage, max });
        // What it does blocks a thread that is there for it, not one of the executor.
        Self { guest: guest.to_owned(), folder: Dir::new(folder, perms, mode, false), limit }
    }

    /// Opens a folder. Errors: it is not there, or not a folder.
    pub fn open(path: &Path) -> io::Result<File> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() { Ok(file) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }
}

/// Which folder each descriptor of a call is in.
#[derive(Default)]
pub(super) struct Opened {
    context: WasiFilesystemCtx,
    /// By the descriptor's number, the folder's.
    folders: HashMap<u32, usize>,
    writes: Writes,
}

/// What the calls of one store work on.
pub(super) struct Files<'a> {
    inner: WasiFilesystemCtxView<'a>,
    granted: &'a [Folder],
    folders: &'a mut HashMap<u32, usize>,
    writes: &'a Writes,
    /// The time of all files, where calls are determined.
    time: Option<Duration>,
}

impl<'a> Files<'a> {
    pub(super) fn new(
        opened: &'a mut Opened,
        table: &'a mut wasmtime_wasi::ResourceTable,
        granted: &'a [Folder],
        determined: Option<&Determined>,
    ) -> Self {
        let inner = WasiFilesystemCtxView { ctx: &mut opened.context, table };
        let time = determined.map(Determined::began);
        Self { inner, granted, folders: &mut opened.folders, writes: &opened.writes, time }
    }

    fn folder(&self, descriptor: &Resource<Descriptor>) -> Option<usize> {
        self.folders.get(&descriptor.rep()).copied()
    }

    /// The limit of the folder that a descriptor is in, where it may be written to.
    fn limit(&self, descriptor: &Resource<Descriptor>) -> Option<Limit> {
        self.granted.get(self.folder(descriptor)?)?.limit.clone()
    }

    /// A file's times are those of the world, where calls are determined.
    fn timed(&self, stat: types::DescriptorStat) -> types::DescriptorStat {
        let Some(time) = self.time else { return stat };
        let time = Some(types::Datetime { seconds: time.as_secs(), nanoseconds: time.subsec_nanos() });
        types::DescriptorStat {
            data_access_timestamp: time,
            data_modification_timestamp: time,
            status_change_timestamp: time,
            ..stat
        }
    }

    /// From one folder to another is a copy, which the handler has to make itself.
    fn within_one(&self, from: &Resource<Descriptor>, to: &Resource<Descriptor>) -> FsResult<()> {
        if self.folder(from) == self.folder(to) { Ok(()) } else { Err(ErrorCode::CrossDevice.into()) }
    }

    /// A file that may be written to, and its limit.
    fn writable(&self, descriptor: &Resource<Descriptor>) -> FsResult<(Arc<File>, Limit)> {
        let Descriptor::File(file) = self.inner.table.get(descriptor)? else {
            return Err(ErrorCode::BadDescriptor.into());
        };
        let limit = self.limit(descriptor).filter(|_| file.open_mode.contains(OpenMode::WRITE));
        Ok((Arc::clone(&file.file), limit.ok_or(ErrorCode::NotPermitted)?))
    }

    fn stream(
        &mut self,
        descriptor: &Resource<Descriptor>,
        offset: Option<u64>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let (file, Limit { usage, max }) = self.writable(descriptor)?;
        let (writes, state) = (self.writes.clone(), stream::State::default());
        let stream: DynOutputStream = Box::new(FileStream { file, usage, max, writes, offset, state });
        Ok(self.inner.table.push(stream)?)
    }
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    preopens::add_to_linker::<Host, HasFiles>(linker, Host::files)?;
    types::add_to_linker::<Host, HasFiles>(linker, Host::files)
}

impl preopens::Host for Files<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut opened = Vec::new();
        for (number, folder) in self.granted.iter().enumerate() {
            let descriptor = self.inner.table.push(Descriptor::Dir(folder.folder.clone()))?;
            self.folders.insert(descriptor.rep(), number);
            opened.push((descriptor, folder.guest.clone()));
        }
        Ok(opened)
    }
}

impl types::Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        types::Host::convert_error_code(&mut self.inner, error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        types::Host::filesystem_error_code(&mut self.inner, error)
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.inner.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.inner, stream)
    }
}

/// Methods that are wasmtime's as they are.
macro_rules! as_they_are {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(async fn $name(&mut self, descriptor: Resource<Descriptor>, $($argument: $type),*) -> $result {
            self.inner.$name(descriptor, $($argument),*).await
        })*
    };
}

impl HostDescriptor for Files<'_> {
    as_they_are! {
        advise(offset: u64, length: u64, advice: types::Advice) -> FsResult<()>;
        sync_data() -> FsResult<()>;
        get_flags() -> FsResult<types::DescriptorFlags>;
        get_type() -> FsResult<types::DescriptorType>;
        set_times(accessed: types::NewTimestamp, modified: types::NewTimestamp) -> FsResult<()>;
        read(length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)>;
        read_directory() -> FsResult<Resource<types::DirectoryEntryStream>>;
        sync() -> FsResult<()>;
        set_times_at(
            flags: types::PathFlags, path: String, accessed: types::NewTimestamp, modified: types::NewTimestamp
        ) -> FsResult<()>;
        readlink_at(path: String) -> FsResult<String>;
        is_same_object(other: Resource<Descriptor>) -> wasmtime::Result<bool>;
        metadata_hash() -> FsResult<types::MetadataHashValue>;
        metadata_hash_at(flags: types::PathFlags, path: String) -> FsResult<types::MetadataHashValue>;
    }

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorStat> {
        let stat = self.inner.stat(descriptor).await?;
        Ok(self.timed(stat))
    }

    async fn stat_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        let stat = self.inner.stat_at(descriptor, flags, path).await?;
        Ok(self.timed(stat))
    }

    fn read_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<wasmtime_wasi::p2::DynInputStream>> {
        self.inner.read_via_stream(descriptor, offset)
    }

    async fn set_size(&mut self, descriptor: Resource<Descriptor>, size: u64) -> FsResult<()> {
        let (file, Limit { usage, max }) = self.writable(&descriptor)?;
        Ok(usage.set_length(max, file, size).await?)
    }

    async fn write(&mut self, descriptor: Resource<Descriptor>, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let (file, Limit { usage, max }) = self.writable(&descriptor)?;
        let length = bytes.len() as u64;
        usage.write(max, file, bytes, Some(offset)).await?;
        Ok(length)
    }

    fn write_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.stream(&descriptor, Some(offset))
    }

    fn append_via_stream(&mut self, descriptor: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.stream(&descriptor, None)
    }

    async fn create_directory_at(&mut self, descriptor: Resource<Descriptor>, path: String) -> FsResult<()> {
        let held = entry(self.limit(&descriptor)).await?;
        let made = self.inner.create_directory_at(descriptor, path).await;
        unless_made(held, made)
    }

    async fn link_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
        new_descriptor: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.within_one(&descriptor, &new_descriptor)?;
        let held = entry(self.limit(&descriptor)).await?;
        let made = self.inner.link_at(descriptor, flags, path, new_descriptor, new_path).await;
        unless_made(held, made)
    }

    /// Other programs may read the folder, and follow what they find there to wherever it leads.
    async fn symlink_at(&mut self, _: Resource<Descriptor>, _: String, _: String) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn open_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let folder = self.folder(&descriptor);
        let limit = self.limit(&descriptor);
        let mut held = None;
        let mut created = false;
        let there = self.inner.stat_at(Resource::new_borrow(descriptor.rep()), path_flags, path.clone()).await;
        // To open a pipe would wait for whoever is at its other end, and to open a device may do something to it.
        if there.as_ref().is_ok_and(|stat| !is_plain(stat.type_)) {
            return Err(ErrorCode::NotPermitted.into());
        }
        if let Some(Limit { usage, max }) = &limit {
            created = open_flags.contains(types::OpenFlags::CREATE) && there.is_err();
            // Where somebody else makes it meanwhile, it is counted twice until the folder is measured again.
            held = Some(if created { usage.take_entry(*max).await? } else { usage.hold().await });
        }
        let opened = self.inner.open_at(descriptor, path_flags, path, open_flags, flags).await;
        if let Some(held) = &mut held {
            match &opened {
                Ok(_) if open_flags.contains(types::OpenFlags::TRUNCATE) => held.removed(),
                Err(_) if created => held.give_back(ENTRY_BYTES),
                _ => {}
            }
        }
        let opened = opened?;
        if let Descriptor::File(file) = self.inner.table.get(&opened)?
            && !file.file.metadata()?.is_file()
        {
            // Somebody put it there in between.
            self.inner.table.delete(opened)?;
            return Err(ErrorCode::NotPermitted.into());
        }
        if let Some(folder) = folder {
            self.folders.insert(opened.rep(), folder);
        }
        if let (Some(held), Descriptor::File(file)) = (&mut held, self.inner.table.get(&opened)?) {
            held.opened(&file.file);
        }
        Ok(opened)
    }

    async fn remove_directory_at(&mut self, descriptor: Resource<Descriptor>, path: String) -> FsResult<()> {
        let limit = self.limit(&descriptor);
        self.inner.remove_directory_at(descriptor, path).await?;
        removed(limit).await;
        Ok(())
    }

    async fn unlink_file_at(&mut self, descriptor: Resource<Descriptor>, path: String) -> FsResult<()> {
        let limit = self.limit(&descriptor);
        self.inner.unlink_file_at(descriptor, path).await?;
        removed(limit).await;
        Ok(())
    }

    async fn rename_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
        new_descriptor: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.within_one(&descriptor, &new_descriptor)?;
        let limit = self.limit(&descriptor);
        self.inner.rename_at(descriptor, path, new_descriptor, new_path).await?;
        removed(limit).await;
        Ok(())
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.folders.remove(&descriptor.rep());
        HostDescriptor::drop(&mut self.inner, descriptor)
    }
}

/// What a handler may open. A link that is not to be followed is refused by the opening itself.
fn is_plain(kind: types::DescriptorType) -> bool {
    use types::DescriptorType as Type;
    matches!(kind, Type::RegularFile | Type::Directory | Type::SymbolicLink)
}

/// Takes room for one more entry of a folder that may be written to.
async fn entry(limit: Option<Limit>) -> FsResult<Option<Held>> {
    match limit {
        Some(Limit { usage, max }) => Ok(Some(usage.take_entry(max).await?)),
        None => Ok(None),
    }
}

/// Gives back the room of an entry that was not made after all.
fn unless_made(held: Option<Held>, made: FsResult<()>) -> FsResult<()> {
    if let (Some(mut held), Err(_)) = (held, &made) {
        held.give_back(ENTRY_BYTES);
    }
    made
}

async fn removed(limit: Option<Limit>) {
    if let Some(Limit { usage, .. }) = limit {
        usage.hold().await.removed();
    }
}
