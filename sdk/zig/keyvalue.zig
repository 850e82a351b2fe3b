//! What outlives a delivery: the store of `[grant] keyvalue`. A handler that calls nothing here imports nothing for it.
//!
//! What is written takes effect at once, not with the settlement: a delivery that is tried again writes again. Keys are
//! UTF-8, values any bytes. What is returned lives until the handler's outcome has been read. `error.Failed` has its
//! text in `wabbit.problem`, and so has the delivery, where it is returned.

const std = @import("std");
const wabbit = @import("wabbit.zig");
const host = @import("host.zig");

pub const Error = error{Failed};

/// The store of this name, which the manifest grants. It goes by `default`, too.
pub fn open(name: []const u8) Error!Store {
    if (!host.in_host) return .{ .bucket = try memory.open(name) };
    try checked(name);
    var answer: imports.Answer = undefined;
    imports.open(name.ptr, name.len, &answer);
    try answer.done();
    return .{ .bucket = answer.value.handle };
}

/// A store that is open.
pub const Store = struct {
    bucket: if (host.in_host) i32 else *memory.Bucket,

    pub fn close(store: Store) void {
        if (host.in_host) imports.@"[resource-drop]bucket"(store.bucket);
    }

    /// The value of a key; null where the key is not there.
    pub fn get(store: Store, key: []const u8) Error!?[]const u8 {
        if (!host.in_host) return store.bucket.get(key);
        try checked(key);
        var answer: imports.Answer = undefined;
        imports.@"[method]bucket.get"(store.bucket, key.ptr, key.len, &answer);
        try answer.done();
        return if (answer.value.option.some != 0) answer.value.option.text.slice() else null;
    }

    /// Gives a key a value.
    pub fn set(store: Store, key: []const u8, value: []const u8) Error!void {
        if (!host.in_host) return store.bucket.set(key, value);
        try checked(key);
        var answer: imports.Answer = undefined;
        imports.@"[method]bucket.set"(store.bucket, key.ptr, key.len, value.ptr, value.len, &answer);
        try answer.done();
    }

    /// Takes a key away, if it is there.
    pub fn delete(store: Store, key: []const u8) Error!void {
        if (!host.in_host) return store.bucket.delete(key);
        try checked(key);
        var answer: imports.Answer = undefined;
        imports.@"[method]bucket.delete"(store.bucket, key.ptr, key.len, &answer);
        try answer.done();
    }

    /// Whether a key is there.
    pub fn exists(store: Store, key: []const u8) Error!bool {
        if (!host.in_host) return store.bucket.get(key) != null;
        try checked(key);
        var answer: imports.Answer = undefined;
        imports.@"[method]bucket.exists"(store.bucket, key.ptr, key.len, &answer);
        try answer.done();
        return answer.value.flag != 0;
    }

    /// Adds to a number, which is 0 where the key is not there, and returns the sum. Nobody comes in between. Elsewhere
    /// the number is text, in decimal digits.
    pub fn increment(store: Store, key: []const u8, by: u64) Error!u64 {
        if (!host.in_host) return store.bucket.increment(key, by);
        try checked(key);
        var answer: imports.WideAnswer = undefined;
        imports.increment(store.bucket, key.ptr, key.len, by, &answer);
        try answer.done();
        return answer.value.number;
    }

    /// All keys, in their order.
    pub fn keys(store: Store, arena: std.mem.Allocator) (Error || error{OutOfMemory})![]const []const u8 {
        if (!host.in_host) return arena.dupe([]const u8, store.bucket.keys.keys());
        var found: std.ArrayList([]const u8) = .empty;
        var answer: imports.WideAnswer = undefined;
        var more: u8 = 0;
        var cursor: u64 = 0;
        while (true) {
            imports.@"[method]bucket.list-keys"(store.bucket, more, cursor, &answer);
            try answer.done();
            const page = answer.value.page;
            if (page.len > 0) for (page.ptr[0..page.len]) |key| try found.append(arena, key.slice());
            if (page.more == 0) return found.items;
            more = page.more;
            cursor = page.cursor;
        }
    }
};

/// The host would end the call for any other text.
fn checked(key: []const u8) Error!void {
    if (!std.unicode.utf8ValidateSlice(key)) return wabbit.fail("the key `{s}` is not UTF-8", .{key});
}

/// For tests: an empty store of that name, in the place of what was there.
pub fn provide(name: []const u8) void {
    if (host.in_host) @compileError("the manifest provides stores; this is for tests");
    memory.provide(name);
}

const imports = struct {
    const Failure = extern struct {
        case: u8,
        text: host.Text,

        fn tell(failure: Failure) Error {
            return switch (failure.case) {
                0 => wabbit.fail("the manifest grants no such store", .{}),
                1 => wabbit.fail("the store is not for this handler", .{}),
                else => wabbit.fail("{s}", .{failure.text.slice()}),
            };
        }
    };

    /// The answers: each is a result, whose value begins where the widest of value and error may.
    const Answer = extern struct {
        failed: u8,
        value: extern union {
            failure: Failure,
            handle: i32,
            flag: u8,
            option: extern struct { some: u8, text: host.Text },
        },

        fn done(answer: *const Answer) Error!void {
            if (answer.failed != 0) return answer.value.failure.tell();
        }
    };
    const WideAnswer = extern struct {
        failed: u8,
        value: extern union {
            failure: Failure,
            number: u64,
            page: extern struct { ptr: [*]const host.Text, len: usize, more: u8, cursor: u64 },
        },

        fn done(answer: *const WideAnswer) Error!void {
            if (answer.failed != 0) return answer.value.failure.tell();
        }
    };

    comptime {
        if (host.in_host) {
            std.debug.assert(@sizeOf(Answer) == 16 and @offsetOf(Answer, "value") == 4);
            std.debug.assert(@sizeOf(WideAnswer) == 32 and @offsetOf(WideAnswer, "value") == 8);
        }
    }

    extern "wasi:keyvalue/store@0.2.0-draft" fn open([*]const u8, usize, *Answer) void;
    extern "wasi:keyvalue/store@0.2.0-draft" fn @"[resource-drop]bucket"(i32) void;
    extern "wasi:keyvalue/store@0.2.0-draft" fn @"[method]bucket.get"(i32, [*]const u8, usize, *Answer) void;
    extern "wasi:keyvalue/store@0.2.0-draft" fn @"[method]bucket.set"(
        i32,
        [*]const u8,
        usize,
        [*]const u8,
        usize,
        *Answer,
    ) void;
    extern "wasi:keyvalue/store@0.2.0-draft" fn @"[method]bucket.delete"(i32, [*]const u8, usize, *Answer) void;
    extern "wasi:keyvalue/store@0.2.0-draft" fn @"[method]bucket.exists"(i32, [*]const u8, usize, *Answer) void;
    extern "wasi:keyvalue/store@0.2.0-draft" fn @"[method]bucket.list-keys"(i32, u32, u64, *WideAnswer) void;
    extern "wasi:keyvalue/atomics@0.2.0-draft" fn increment(i32, [*]const u8, usize, u64, *WideAnswer) void;
};

/// What stands in for the host in tests. Its memory is never freed.
const memory = struct {
    const allocator = std.heap.page_allocator;
    var buckets: std.array_hash_map.String(*Bucket) = .empty;

    const Bucket = struct {
        keys: std.array_hash_map.String([]const u8) = .empty,

        fn get(bucket: *Bucket, key: []const u8) ?[]const u8 {
            return bucket.keys.get(key);
        }

        fn set(bucket: *Bucket, key: []const u8, value: []const u8) void {
            bucket.keys.put(allocator, keep(key), keep(value)) catch @panic("out of memory");
            bucket.keys.sort(struct {
                names: []const []const u8,
                pub fn lessThan(by: @This(), a: usize, b: usize) bool {
                    return std.mem.lessThan(u8, by.names[a], by.names[b]);
                }
            }{ .names = bucket.keys.keys() });
        }

        fn delete(bucket: *Bucket, key: []const u8) void {
            _ = bucket.keys.orderedRemove(key);
        }

        fn increment(bucket: *Bucket, key: []const u8, by: u64) Error!u64 {
            const old = std.fmt.parseInt(u64, bucket.get(key) orelse "0", 10) catch
                return wabbit.fail("the value of `{s}` is not a whole number", .{key});
            const sum = std.math.add(u64, old, by) catch return wabbit.fail("`{s}` would be too large", .{key});
            var digits: [20]u8 = undefined;
            bucket.set(key, std.fmt.bufPrint(&digits, "{d}", .{sum}) catch unreachable);
            return sum;
        }
    };

    fn keep(bytes: []const u8) []const u8 {
        return allocator.dupe(u8, bytes) catch @panic("out of memory");
    }

    fn provide(name: []const u8) void {
        const bucket = allocator.create(Bucket) catch @panic("out of memory");
        bucket.* = .{};
        buckets.put(allocator, keep(name), bucket) catch @panic("out of memory");
    }

    fn open(name: []const u8) Error!*Bucket {
        return buckets.get(name) orelse wabbit.fail("the manifest grants no such store", .{});
    }
};

test "a store keeps what it is given" {
    try std.testing.expectError(error.Failed, open("counts"));
    try std.testing.expectEqualStrings("the manifest grants no such store", wabbit.problem.text());
    provide("counts");
    const store = try open("counts");
    defer store.close();
    try std.testing.expectEqual(null, try store.get("a"));
    try std.testing.expectEqual(2, try store.increment("a", 2));
    try std.testing.expectEqual(std.math.maxInt(u64), try store.increment("a", std.math.maxInt(u64) - 2));
    try std.testing.expectError(error.Failed, store.increment("a", 1));
    try std.testing.expectEqualStrings("`a` would be too large", wabbit.problem.text());
    try store.set("c", "\x00\xff");
    try store.set("b", "");
    try std.testing.expectEqualStrings("\x00\xff", (try store.get("c")).?);
    try std.testing.expectError(error.Failed, store.increment("b", 1));
    try std.testing.expectEqualStrings("the value of `b` is not a whole number", wabbit.problem.text());
    const keys = try store.keys(std.testing.allocator);
    defer std.testing.allocator.free(keys);
    try std.testing.expectEqualDeep(@as([]const []const u8, &.{ "a", "b", "c" }), keys);
    try std.testing.expect(try store.exists("b"));
    try store.delete("b");
    try store.delete("b");
    try std.testing.expect(!try store.exists("b"));
}
