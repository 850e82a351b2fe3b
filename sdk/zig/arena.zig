//! The memory of one call: what the host lowers a delivery into, and what the handler makes of it. It is taken from the
//! end of the module's memory, one piece after the other, and is all free again when the host has read the outcome. So
//! a reused instance does not grow beyond what its largest delivery needed.

const std = @import("std");
const Allocator = std.mem.Allocator;
const Alignment = std.mem.Alignment;

/// `source.grow(bytes)` makes memory larger by at least so many bytes, and gives all that was added; null where there
/// is no more.
pub fn Arena(comptime Source: type) type {
    return struct {
        source: Source,
        /// The memory that the arena has, and how much of it is used.
        memory: []u8 = &.{},
        used: usize = 0,

        const Self = @This();

        pub fn allocator(self: *Self) Allocator {
            return .{ .ptr = self, .vtable = &.{ .alloc = alloc, .resize = resize, .remap = remap, .free = free } };
        }

        /// Frees everything.
        pub fn reset(self: *Self) void {
            self.used = 0;
        }

        pub fn take(self: *Self, length: usize, alignment: Alignment) ?[*]u8 {
            const from = self.aligned(alignment);
            if (from + length > self.memory.len) {
                const missing = from + length - self.memory.len + alignment.toByteUnits();
                const more = self.source.grow(missing) orelse return null;
                if (more.ptr == self.memory.ptr + self.memory.len) {
                    self.memory.len += more.len;
                } else {
                    // The first piece, or something else has taken memory in between: what is there is left to the
                    // pieces that live in it, and given up.
                    self.memory = more;
                    self.used = 0;
                    if (more.len < length + alignment.toByteUnits()) return self.take(length, alignment);
                }
            }
            const start = self.aligned(alignment);
            self.used = start + length;
            return self.memory.ptr + start;
        }

        fn aligned(self: *const Self, alignment: Alignment) usize {
            const base = @intFromPtr(self.memory.ptr);
            return alignment.forward(base + self.used) - base;
        }

        fn isLast(self: *const Self, piece: []u8) bool {
            return piece.ptr + piece.len == self.memory.ptr + self.used;
        }

        fn alloc(context: *anyopaque, length: usize, alignment: Alignment, _: usize) ?[*]u8 {
            const self: *Self = @ptrCast(@alignCast(context));
            return self.take(length, alignment);
        }

        /// The last piece grows where it is: a text that is being written is not copied over and over.
        fn resize(context: *anyopaque, piece: []u8, _: Alignment, length: usize, _: usize) bool {
            const self: *Self = @ptrCast(@alignCast(context));
            if (!self.isLast(piece)) return length <= piece.len;
            const start = self.used - piece.len;
            if (start + length > self.memory.len) {
                const more = self.source.grow(start + length - self.memory.len) orelse return false;
                if (more.ptr != self.memory.ptr + self.memory.len) return false;
                self.memory.len += more.len;
            }
            self.used = start + length;
            return true;
        }

        fn remap(context: *anyopaque, piece: []u8, alignment: Alignment, length: usize, address: usize) ?[*]u8 {
            return if (resize(context, piece, alignment, length, address)) piece.ptr else null;
        }

        fn free(context: *anyopaque, piece: []u8, _: Alignment, _: usize) void {
            const self: *Self = @ptrCast(@alignCast(context));
            if (self.isLast(piece)) self.used -= piece.len;
        }
    };
}

/// Gives pieces of a buffer, as a module's memory would grow in pages of 64 bytes.
const Pages = struct {
    buffer: []u8,
    given: usize = 0,

    fn grow(self: *Pages, bytes: usize) ?[]u8 {
        const size = std.mem.alignForward(usize, bytes, 64);
        if (self.given + size > self.buffer.len) return null;
        defer self.given += size;
        return self.buffer[self.given..][0..size];
    }
};

test "pieces are aligned, and do not overlap" {
    var buffer: [4096]u8 = undefined;
    var arena: Arena(Pages) = .{ .source = .{ .buffer = &buffer } };
    var last: usize = 0;
    const alignments = [_]Alignment{ .@"1", .@"8", .@"1", .@"4", .@"16", .@"8" };
    for (alignments, [_]usize{ 1, 176, 3, 100, 0, 24 }) |alignment, length| {
        const piece = @intFromPtr(arena.take(length, alignment).?);
        try std.testing.expect(alignment.check(piece));
        try std.testing.expect(piece >= last);
        last = piece + length;
    }
    try std.testing.expect(last <= @intFromPtr(&buffer) + arena.source.given);
}

test "memory is used again after a reset" {
    var buffer: [1024]u8 = undefined;
    var arena: Arena(Pages) = .{ .source = .{ .buffer = &buffer } };
    for (0..100) |_| {
        try std.testing.expect(arena.take(500, .@"8") != null);
        try std.testing.expect(arena.take(300, .@"1") != null);
        arena.reset();
    }
    try std.testing.expect(arena.source.given <= 896);
}

test "there is an end" {
    var buffer: [1024]u8 = undefined;
    var arena: Arena(Pages) = .{ .source = .{ .buffer = &buffer } };
    try std.testing.expectEqual(null, arena.take(2000, .@"1"));
    try std.testing.expect(arena.take(500, .@"1") != null);
    try std.testing.expectError(error.OutOfMemory, arena.allocator().alloc(u8, 600));
}

test "the last piece grows in place" {
    var buffer: [1024]u8 = undefined;
    var arena: Arena(Pages) = .{ .source = .{ .buffer = &buffer } };
    const allocator = arena.allocator();
    const first = try allocator.alloc(u8, 10);
    const second = try allocator.alloc(u8, 10);
    try std.testing.expect(!allocator.resize(first, 20));
    try std.testing.expect(allocator.resize(second, 700));
    allocator.free(second[0..].ptr[0..700]);
    try std.testing.expectEqual(second.ptr, (try allocator.alloc(u8, 900)).ptr);
}

test "what something else takes in between is not touched" {
    var buffer: [2048]u8 = undefined;
    var arena: Arena(Pages) = .{ .source = .{ .buffer = &buffer } };
    const first = arena.take(100, .@"1").?[0..100];
    const other = arena.source.grow(64).?;
    const second = arena.take(100, .@"1").?[0..100];
    @memset(first, 1);
    @memset(other, 2);
    @memset(second, 3);
    try std.testing.expectEqual(1, first[99]);
    try std.testing.expectEqual(2, other[63]);
}
