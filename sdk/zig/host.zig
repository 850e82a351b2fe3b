//! What the host calls, and what it is asked. The host lowers a delivery into pieces that it asks `cabi_realloc` for,
//! calls `handle` with the address of the record, lifts the result that `handle` points to, and then calls the
//! post-return function.

const std = @import("std");
const builtin = @import("builtin");
const wabbit = @import("wabbit.zig");
const layout = @import("layout.zig");
const Arena = @import("arena.zig").Arena;
const Allocator = std.mem.Allocator;

/// Tests run elsewhere, without a host.
pub const in_host = builtin.cpu.arch.isWasm();

/// A text or a list of bytes, as the host passes it: part of this module's memory.
pub const Text = extern struct {
    ptr: [*]const u8,
    len: usize,

    pub fn of(bytes: []const u8) Text {
        return .{ .ptr = bytes.ptr, .len = bytes.len };
    }

    pub fn slice(text: Text) []const u8 {
        return if (text.len == 0) "" else text.ptr[0..text.len];
    }
};

const Handler = fn (Allocator, *const wabbit.Delivery) anyerror!wabbit.Outcome;

pub fn serve(comptime handler: anytype) void {
    if (!in_host) return;
    const exports = struct {
        fn handle(address: u32) callconv(.c) u32 {
            const allocator = arena.allocator();
            result = answer(allocator, @ptrFromInt(address)) catch |err|
                layout.writeFailure(linear, if (wabbit.problem.isOf(err)) wabbit.problem.text() else @errorName(err));
            return @intCast(@intFromPtr(&result));
        }

        fn answer(allocator: Allocator, record: *const layout.Delivery) anyerror!layout.Result {
            const delivery = try layout.readDelivery(linear, allocator, record);
            const handle_: *const Handler = &wrapped;
            const outcome = handle_(allocator, &delivery) catch |err| switch (err) {
                // The body will be no better the next time.
                error.BodyUnreadable => wabbit.Outcome.deadLetter(wabbit.problem.text()),
                else => return err,
            };
            return layout.writeOutcome(linear, allocator, outcome);
        }

        fn wrapped(allocator: Allocator, delivery: *const wabbit.Delivery) anyerror!wabbit.Outcome {
            return handler(allocator, delivery);
        }
    };
    @export(&exports.handle, .{ .name = "wabbit:worker/handler@0.1.0#handle" });
    @export(&postReturn, .{ .name = "cabi_post_wabbit:worker/handler@0.1.0#handle" });
    @export(&realloc, .{ .name = "cabi_realloc" });
    @export(&reallocAdapter, .{ .name = "cabi_realloc_adapter" });
}

/// The module's own memory.
const linear = struct {
    pub fn slice(comptime T: type, at: u32, length: u32) []const T {
        if (length == 0) return &.{};
        const start: [*]const T = @ptrFromInt(at);
        return start[0..length];
    }

    pub fn address(comptime T: type, slice_: []const T) u32 {
        return @intCast(@intFromPtr(slice_.ptr));
    }
};

const Memory = struct {
    pub fn grow(_: Memory, bytes: usize) ?[]u8 {
        const pages = std.math.divCeil(usize, bytes, std.wasm.page_size) catch unreachable;
        const before = @wasmMemoryGrow(0, pages);
        if (before < 0) return null;
        const start: [*]u8 = @ptrFromInt(@as(usize, @intCast(before)) * std.wasm.page_size);
        return start[0 .. pages * std.wasm.page_size];
    }
};

var arena: Arena(Memory) = .{ .source = .{} };
/// Of the call whose post-return is yet to come.
var result: layout.Result = .{};

fn postReturn(_: u32) callconv(.c) void {
    arena.reset();
}

fn realloc(old: ?[*]const u8, old_size: usize, alignment: usize, size: usize) callconv(.c) ?[*]u8 {
    if (size == 0) return @ptrFromInt(alignment);
    const piece = arena.take(size, .fromByteUnits(alignment)) orelse @trap();
    if (old) |from| {
        const kept = @min(old_size, size);
        @memcpy(piece[0..kept], from[0..kept]);
    }
    return piece;
}

/// The host's adapter from WASI preview 1 asks for its stack and its state here, once and for good: what `cabi_realloc`
/// gives is free again after the call.
fn reallocAdapter(_: ?[*]const u8, _: usize, alignment: usize, size: usize) callconv(.c) ?[*]u8 {
    const from = std.mem.alignForward(usize, adapter.used, alignment);
    if (from + size > adapter.area.len) @trap();
    adapter.used = from + size;
    return adapter.area[from..].ptr;
}

const adapter = struct {
    var area: [2 * std.wasm.page_size + 4096]u8 align(16) = undefined;
    var used: usize = 0;
};

const imports = struct {
    extern "wabbit:worker/context@0.1.0" fn worker(name: *[2]u32) void;
    extern "wabbit:worker/context@0.1.0" fn @"remaining-ms"() u32;
    extern "wasi_snapshot_preview1" fn fd_write(descriptor: u32, list: *const [2]u32, count: u32, written: *u32) u32;
};

pub fn worker() []const u8 {
    if (!in_host) return "test";
    var name: [2]u32 = undefined;
    imports.worker(&name);
    return linear.slice(u8, name[0], name[1]);
}

pub fn remainingMs() u32 {
    return if (in_host) imports.@"remaining-ms"() else 5000;
}

fn write(text: []const u8) void {
    const stderr = 2;
    var left = text;
    while (left.len > 0) {
        var written: u32 = 0;
        if (imports.fd_write(stderr, &.{ linear.address(u8, left), @intCast(left.len) }, 1, &written) != 0) return;
        left = left[written..];
    }
}

pub const std_options: std.Options = if (in_host) .{ .logFn = log, .log_level = .debug } else .{};

fn log(
    comptime _: std.log.Level,
    comptime _: @EnumLiteral(),
    comptime format: []const u8,
    arguments: anytype,
) void {
    const line = std.fmt.allocPrint(arena.allocator(), format ++ "\n", arguments) catch return;
    defer arena.allocator().free(line);
    write(line);
}

pub const panic = if (in_host) std.debug.FullPanic(end) else std.debug.FullPanic(std.debug.defaultPanic);

fn end(message: []const u8, _: ?usize) noreturn {
    write("panic: ");
    write(message);
    write("\n");
    @trap();
}
