//! Files, in the folders that the manifest's `[grant] files` names: Zig's own library has none on
//! `wasm32-freestanding`. What is written takes effect at once, not with the settlement. The errors have their text in
//! `wabbit.problem`, and so has the delivery, where one is returned.

const std = @import("std");
const wabbit = @import("wabbit.zig");
const host = @import("host.zig");
const Allocator = std.mem.Allocator;

pub const Error = error{
    /// The path is in no folder of the manifest.
    FileNotGranted,
    /// There is no such file or folder.
    FileMissing,
    /// Anything else: such as a folder that is for reading, or one that is full.
    FileFailed,
    OutOfMemory,
};

const Mode = enum { read, replace, append };

/// The whole of a file.
pub fn read(arena: Allocator, path: []const u8) Error![]u8 {
    if (!host.in_host) return machine.read(arena, path);
    const file = try File.open(path, .read);
    defer file.close();
    var bytes: std.ArrayList(u8) = .empty;
    while (true) {
        try bytes.ensureUnusedCapacity(arena, piece_bytes);
        const count = try file.read(bytes.unusedCapacitySlice(), path);
        if (count == 0) return bytes.items;
        bytes.items.len += count;
    }
}

/// Writes a file, in the place of one of the same path. A handler can be cut off in the middle: for what others read,
/// write under another name, and `rename`.
pub fn write(path: []const u8, bytes: []const u8) Error!void {
    try put(path, bytes, .replace);
}

/// Adds to the end of a file, which need not be there.
pub fn append(path: []const u8, bytes: []const u8) Error!void {
    try put(path, bytes, .append);
}

/// Gives a file another path, in the place of one of that path.
pub fn rename(from: []const u8, to: []const u8) Error!void {
    if (!host.in_host) return machine.rename(from, to);
    const old = try locate(from);
    const new = try locate(to);
    const code = imports.path_rename(old.folder, old.rest.ptr, old.rest.len, new.folder, new.rest.ptr, new.rest.len);
    if (code != 0) return failed(from, code);
}

/// Takes a file away.
pub fn delete(path: []const u8) Error!void {
    if (!host.in_host) return machine.delete(path);
    const place = try locate(path);
    const code = imports.path_unlink_file(place.folder, place.rest.ptr, place.rest.len);
    if (code != 0) return failed(path, code);
}

/// For tests: what the handler sees as `/` from now on is that folder, such as one of `std.testing.tmpDir`; null, none.
pub fn provide(folder: ?std.Io.Dir) void {
    if (host.in_host) @compileError("the manifest provides folders; this is for tests");
    machine.root = folder;
}

const piece_bytes = 16 * 1024;

fn put(path: []const u8, bytes: []const u8, mode: Mode) Error!void {
    if (!host.in_host) return machine.put(path, bytes, mode);
    const file = try File.open(path, mode);
    defer file.close();
    var rest = bytes;
    while (rest.len > 0) rest = rest[try file.write(rest, path)..];
}

/// A file that is open.
const File = struct {
    descriptor: i32,

    fn open(path: []const u8, mode: Mode) Error!File {
        const place = try locate(path);
        const flags: u32 = switch (mode) {
            .read => 0,
            .replace => open_create | open_truncate,
            .append => open_create,
        };
        const rights: u64 = if (mode == .read) right_read else right_write;
        const appends: u32 = if (mode == .append) descriptor_append else 0;
        var file: File = undefined;
        const code = imports.path_open(
            place.folder,
            lookup_follow,
            place.rest.ptr,
            place.rest.len,
            flags,
            rights,
            0,
            appends,
            &file.descriptor,
        );
        return if (code == 0) file else failed(path, code);
    }

    fn close(file: File) void {
        _ = imports.fd_close(file.descriptor);
    }

    fn read(file: File, into: []u8, path: []const u8) Error!usize {
        var count: usize = 0;
        const code = imports.fd_read(file.descriptor, &.{ .ptr = into.ptr, .len = into.len }, 1, &count);
        return if (code == 0) count else failed(path, code);
    }

    fn write(file: File, from: []const u8, path: []const u8) Error!usize {
        var count: usize = 0;
        const code = imports.fd_write(file.descriptor, &.{ .ptr = from.ptr, .len = from.len }, 1, &count);
        return if (code == 0) count else failed(path, code);
    }
};

/// A granted folder, and the path within it.
const Place = struct { folder: i32, rest: []const u8 };

/// The granted folder with the longest path that the file's begins with.
fn locate(path: []const u8) Error!Place {
    var found: ?Place = null;
    var name: [1024]u8 = undefined;
    var descriptor: i32 = 3; // after the standard streams
    var longest: usize = 0;
    while (true) : (descriptor += 1) {
        var folder: Prestat = undefined;
        if (imports.fd_prestat_get(descriptor, &folder) != 0) break;
        if (folder.length > name.len) continue;
        if (imports.fd_prestat_dir_name(descriptor, &name, folder.length) != 0) continue;
        const rest = below(name[0..folder.length], path) orelse continue;
        if (found != null and folder.length < longest) continue;
        longest = folder.length;
        found = .{ .folder = descriptor, .rest = rest };
    }
    if (found) |place| return place;
    return notGranted(path);
}

fn notGranted(path: []const u8) Error {
    wabbit.problem.set("{s}: not in a folder of the manifest's `[grant] files`", .{path});
    return error.FileNotGranted;
}

/// What is left of a path below a folder; null where it is elsewhere.
fn below(folder: []const u8, path: []const u8) ?[]const u8 {
    const name = std.mem.trimEnd(u8, folder, "/");
    if (!std.mem.startsWith(u8, path, name)) return null;
    const rest = path[name.len..];
    if (rest.len < 2 or rest[0] != '/') return null;
    return std.mem.trimStart(u8, rest, "/");
}

fn failed(path: []const u8, code: u32) Error {
    const no_such_file = 44;
    const text = switch (code) {
        2, 63, 69, 76 => "not granted for writing, or outside of the folder",
        19, 22 => "too large",
        31 => "is a folder",
        no_such_file => "no such file or folder",
        51 => "no space left",
        54 => "not a folder",
        else => {
            wabbit.problem.set("{s}: error {d} of WASI", .{ path, code });
            return error.FileFailed;
        },
    };
    wabbit.problem.set("{s}: {s}", .{ path, text });
    return if (code == no_such_file) error.FileMissing else error.FileFailed;
}

const lookup_follow = 1;
const open_create = 1;
const open_truncate = 8;
const descriptor_append = 1;
const right_read = 1 << 1 | 1 << 2 | 1 << 5; // with seek and tell
const right_write = 1 << 2 | 1 << 5 | 1 << 6;

const Prestat = extern struct { kind: u8, length: u32 };
const List = extern struct { ptr: [*]const u8, len: usize };

/// WASI preview 1. Only what a handler uses is imported.
const imports = struct {
    extern "wasi_snapshot_preview1" fn fd_prestat_get(descriptor: i32, folder: *Prestat) u32;
    extern "wasi_snapshot_preview1" fn fd_prestat_dir_name(descriptor: i32, name: [*]u8, length: usize) u32;
    extern "wasi_snapshot_preview1" fn path_open(
        folder: i32,
        lookup: u32,
        path: [*]const u8,
        path_len: usize,
        flags: u32,
        rights: u64,
        inherited: u64,
        descriptor_flags: u32,
        descriptor: *i32,
    ) u32;
    extern "wasi_snapshot_preview1" fn path_rename(
        folder: i32,
        path: [*]const u8,
        path_len: usize,
        new_folder: i32,
        new_path: [*]const u8,
        new_path_len: usize,
    ) u32;
    extern "wasi_snapshot_preview1" fn path_unlink_file(folder: i32, path: [*]const u8, path_len: usize) u32;
    extern "wasi_snapshot_preview1" fn fd_read(descriptor: i32, list: *const List, count: usize, done: *usize) u32;
    extern "wasi_snapshot_preview1" fn fd_write(descriptor: i32, list: *const List, count: usize, done: *usize) u32;
    extern "wasi_snapshot_preview1" fn fd_close(descriptor: i32) u32;
};

/// What stands in for the host in tests.
const machine = struct {
    var root: ?std.Io.Dir = null;
    var threaded: std.Io.Threaded = .init_single_threaded;

    fn inside(path: []const u8) Error![]const u8 {
        return if (path.len > 1 and path[0] == '/') path[1..] else notGranted(path);
    }

    fn folder(path: []const u8) Error!std.Io.Dir {
        return root orelse notGranted(path);
    }

    fn tell(path: []const u8, err: anyerror) Error {
        if (err == error.OutOfMemory) return error.OutOfMemory;
        wabbit.problem.set("{s}: {t}", .{ path, err });
        return if (err == error.FileNotFound) error.FileMissing else error.FileFailed;
    }

    fn read(arena: Allocator, path: []const u8) Error![]u8 {
        const dir = try folder(path);
        return dir.readFileAlloc(threaded.io(), try inside(path), arena, .unlimited) catch |err| tell(path, err);
    }

    fn put(path: []const u8, bytes: []const u8, mode: Mode) Error!void {
        const dir = try folder(path);
        const io = threaded.io();
        const file = dir.createFile(io, try inside(path), .{ .truncate = mode != .append }) catch |err|
            return tell(path, err);
        defer file.close(io);
        const end = file.length(io) catch |err| return tell(path, err);
        file.writePositionalAll(io, bytes, end) catch |err| return tell(path, err);
    }

    fn rename(from: []const u8, to: []const u8) Error!void {
        const dir = try folder(from);
        dir.rename(try inside(from), dir, try inside(to), threaded.io()) catch |err| return tell(from, err);
    }

    fn delete(path: []const u8) Error!void {
        const dir = try folder(path);
        dir.deleteFile(threaded.io(), try inside(path)) catch |err| return tell(path, err);
    }
};

test "paths are in folders" {
    const check = struct {
        fn check(folder: []const u8, path: []const u8, expected: ?[]const u8) !void {
            try std.testing.expectEqualDeep(expected, below(folder, path));
        }
    }.check;
    try check("/reports", "/reports/a/b", "a/b");
    try check("/reports/", "/reports//a", "a");
    try check("/", "/a", "a");
    try check("/reports", "/reports", null);
    try check("/reports", "/reports/", null);
    try check("/reports", "/reportsa", null);
    try check("/reports", "reports/a", null);
}

test "files are those of a folder" {
    const allocator = std.testing.allocator;
    try std.testing.expectError(error.FileNotGranted, write("/a", "1"));
    try std.testing.expectEqualStrings("/a: not in a folder of the manifest's `[grant] files`", wabbit.problem.text());
    var folder = std.testing.tmpDir(.{});
    defer folder.cleanup();
    provide(folder.dir);
    defer provide(null);
    try std.testing.expectError(error.FileMissing, read(allocator, "/a"));
    try write("/a", "longer");
    try write("/a", "1");
    try append("/a", "2");
    try rename("/a", "/b");
    const text = try read(allocator, "/b");
    defer allocator.free(text);
    try std.testing.expectEqualStrings("12", text);
    try delete("/b");
    try std.testing.expectError(error.FileMissing, delete("/b"));
    try std.testing.expectError(error.FileFailed, write("/.", ""));
}
