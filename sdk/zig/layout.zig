//! The records of sdk/wit/worker.wit as the component model's canonical ABI lays them out in a 32-bit memory. Its rule,
//! each field at the next multiple of its alignment, is that of an `extern struct`; an option or variant is a byte that
//! says which case it is and then, aligned for the widest case, the value. Addresses are numbers here, so that the same
//! code runs in tests on another machine: `memory.slice` and `memory.address` go between them and slices.

const std = @import("std");
const wabbit = @import("wabbit.zig");
const Allocator = std.mem.Allocator;

/// A text or a list.
const List = extern struct {
    address: u32 = 0,
    length: u32 = 0,
};

fn Option(comptime T: type) type {
    return extern struct {
        some: u8 = 0,
        value: T = std.mem.zeroes(T),
    };
}

/// A field's value: a number, or a text's address and length. Both halves of the contract's variant are 8 bytes.
const Field = extern struct {
    case: u8 = 0,
    value: extern union { bits: u64 align(8), flag: u8, list: List } = .{ .bits = 0 },
};

const Header = extern struct {
    name: List,
    field: Field,
};

const Properties = extern struct {
    content_type: Option(List) = .{},
    content_encoding: Option(List) = .{},
    headers: List = .{},
    persistent: u8 = 0,
    priority: Option(u8) = .{},
    correlation_id: Option(List) = .{},
    reply_to: Option(List) = .{},
    expiration_ms: Option(u32) = .{},
    message_id: Option(List) = .{},
    timestamp: Option(u64) = .{},
    kind: Option(List) = .{},
    user_id: Option(List) = .{},
    app_id: Option(List) = .{},
};

pub const Delivery = extern struct {
    body: List,
    properties: Properties,
    exchange: List,
    routing_key: List,
    queue: List,
    redelivered: u8,
    attempt: u32,
};

const Publication = extern struct {
    exchange: List,
    routing_key: List,
    body: List,
    properties: Properties,
};

/// A result<outcome, string>: `value` is a settlement's, or begins with the text of a failure.
pub const Result = extern struct {
    failed: u8 = 0,
    /// The settlement's case, or the address of the failure's text.
    first: u32 = 0,
    /// The settlement's value: the option of a retry or the reason of a dead letter. Or the length of the failure's
    /// text.
    second: u32 = 0,
    third: u32 = 0,
    publications: List = .{},
};

// The sizes and offsets that the rule gives by hand.
comptime {
    for ([_][2]usize{
        .{ @sizeOf(Field), 16 },                         .{ @offsetOf(Field, "value"), 8 },
        .{ @sizeOf(Header), 24 },                        .{ @sizeOf(Properties), 136 },
        .{ @offsetOf(Properties, "priority"), 33 },      .{ @offsetOf(Properties, "correlation_id"), 36 },
        .{ @offsetOf(Properties, "expiration_ms"), 60 }, .{ @offsetOf(Properties, "message_id"), 68 },
        .{ @offsetOf(Properties, "timestamp"), 80 },     .{ @offsetOf(Properties, "app_id"), 120 },
        .{ @sizeOf(Delivery), 176 },                     .{ @offsetOf(Delivery, "exchange"), 144 },
        .{ @offsetOf(Delivery, "redelivered"), 168 },    .{ @offsetOf(Delivery, "attempt"), 172 },
        .{ @sizeOf(Publication), 160 },                  .{ @offsetOf(Publication, "properties"), 24 },
        .{ @sizeOf(Result), 24 },                        .{ @offsetOf(Result, "publications"), 16 },
    }) |pair| std.debug.assert(pair[0] == pair[1]);
}

/// The delivery of a record. Texts and body stay where the host wrote them.
pub fn readDelivery(memory: anytype, arena: Allocator, d: *const Delivery) error{OutOfMemory}!wabbit.Delivery {
    return .{
        .body = bytes(memory, d.body),
        .properties = try readProperties(memory, arena, &d.properties),
        .exchange = bytes(memory, d.exchange),
        .routing_key = bytes(memory, d.routing_key),
        .queue = bytes(memory, d.queue),
        .redelivered = d.redelivered != 0,
        .attempt = d.attempt,
    };
}

fn bytes(memory: anytype, list: List) []const u8 {
    return memory.slice(u8, list.address, list.length);
}

fn optional(memory: anytype, option: Option(List)) ?[]const u8 {
    return if (option.some == 0) null else bytes(memory, option.value);
}

fn readProperties(memory: anytype, arena: Allocator, p: *const Properties) error{OutOfMemory}!wabbit.Properties {
    const records = memory.slice(Header, p.headers.address, p.headers.length);
    const headers = try arena.alloc(wabbit.Header, records.len);
    for (headers, records) |*header, record| {
        header.* = .{ .name = bytes(memory, record.name), .value = readField(memory, record.field) };
    }
    return .{
        .content_type = optional(memory, p.content_type),
        .content_encoding = optional(memory, p.content_encoding),
        .headers = headers,
        .persistent = p.persistent != 0,
        .priority = if (p.priority.some == 0) null else p.priority.value,
        .correlation_id = optional(memory, p.correlation_id),
        .reply_to = optional(memory, p.reply_to),
        .expiration_ms = if (p.expiration_ms.some == 0) null else p.expiration_ms.value,
        .message_id = optional(memory, p.message_id),
        .timestamp = if (p.timestamp.some == 0) null else p.timestamp.value,
        .kind = optional(memory, p.kind),
        .user_id = optional(memory, p.user_id),
        .app_id = optional(memory, p.app_id),
    };
}

fn readField(memory: anytype, field: Field) wabbit.Field {
    const bits = field.value.bits;
    const list = field.value.list;
    return switch (field.case) {
        0 => .{ .boolean = field.value.flag != 0 },
        1 => .{ .integer = @bitCast(bits) },
        2 => .{ .float = @bitCast(bits) },
        3 => .{ .text = bytes(memory, list) },
        4 => .{ .binary = bytes(memory, list) },
        5 => .{ .timestamp = bits },
        6 => .{ .json = bytes(memory, list) },
        else => .void,
    };
}

const Error = error{ Failed, OutOfMemory };

/// The record of an outcome, which points to the outcome's texts and bodies.
pub fn writeOutcome(memory: anytype, arena: Allocator, outcome: wabbit.Outcome) Error!Result {
    var result: Result = .{};
    switch (outcome.settlement) {
        .ack => result.first = 0,
        .requeue => result.first = 1,
        .retry => |delay| {
            result.first = 2;
            if (delay) |ms| {
                result.second = 1;
                result.third = ms;
            }
        },
        .dead_letter => |reason| {
            result.first = 3;
            const list = try textOf(memory, reason);
            result.second = list.address;
            result.third = list.length;
        },
    }
    const records = try arena.alloc(Publication, outcome.publications.len);
    for (records, outcome.publications) |*record, publication| {
        record.* = .{
            .exchange = try textOf(memory, publication.exchange),
            .routing_key = try textOf(memory, publication.routing_key),
            .body = listOf(memory, u8, publication.body),
            .properties = try writeProperties(memory, arena, publication.properties),
        };
    }
    result.publications = listOf(memory, Publication, records);
    return result;
}

/// The record of a failure with that text.
pub fn writeFailure(memory: anytype, text: []const u8) Result {
    const list = listOf(memory, u8, text);
    return .{ .failed = 1, .first = list.address, .second = list.length };
}

fn listOf(memory: anytype, comptime T: type, slice: []const T) List {
    // The address of nothing is no address of memory.
    return if (slice.len == 0) .{} else .{ .address = memory.address(T, slice), .length = @intCast(slice.len) };
}

/// The contract's texts are UTF-8; the host would call any other a bug of the guest.
fn textOf(memory: anytype, text: []const u8) error{Failed}!List {
    if (std.unicode.utf8ValidateSlice(text)) return listOf(memory, u8, text);
    return wabbit.fail("the outcome cannot be carried out: \"{f}\" is not UTF-8", .{std.ascii.hexEscape(text, .lower)});
}

fn optionOf(memory: anytype, text: ?[]const u8) error{Failed}!Option(List) {
    return if (text) |some| .{ .some = 1, .value = try textOf(memory, some) } else .{};
}

fn writeProperties(memory: anytype, arena: Allocator, p: wabbit.Properties) Error!Properties {
    const headers = try arena.alloc(Header, p.headers.len);
    for (headers, p.headers) |*record, header| {
        record.* = .{ .name = try textOf(memory, header.name), .field = try writeField(memory, header.value) };
    }
    return .{
        .content_type = try optionOf(memory, p.content_type),
        .content_encoding = try optionOf(memory, p.content_encoding),
        .headers = listOf(memory, Header, headers),
        .persistent = @intFromBool(p.persistent),
        .priority = if (p.priority) |value| .{ .some = 1, .value = value } else .{},
        .correlation_id = try optionOf(memory, p.correlation_id),
        .reply_to = try optionOf(memory, p.reply_to),
        .expiration_ms = if (p.expiration_ms) |value| .{ .some = 1, .value = value } else .{},
        .message_id = try optionOf(memory, p.message_id),
        .timestamp = if (p.timestamp) |value| .{ .some = 1, .value = value } else .{},
        .kind = try optionOf(memory, p.kind),
        .user_id = try optionOf(memory, p.user_id),
        .app_id = try optionOf(memory, p.app_id),
    };
}

fn writeField(memory: anytype, field: wabbit.Field) error{Failed}!Field {
    return switch (field) {
        .boolean => |value| .{ .case = 0, .value = .{ .flag = @intFromBool(value) } },
        .integer => |value| .{ .case = 1, .value = .{ .bits = @bitCast(value) } },
        .float => |value| .{ .case = 2, .value = .{ .bits = @bitCast(value) } },
        .text => |value| .{ .case = 3, .value = .{ .list = try textOf(memory, value) } },
        .binary => |value| .{ .case = 4, .value = .{ .list = listOf(memory, u8, value) } },
        .timestamp => |value| .{ .case = 5, .value = .{ .bits = value } },
        .json => |value| .{ .case = 6, .value = .{ .list = try textOf(memory, value) } },
        .void => .{ .case = 7 },
    };
}

/// A memory in which a slice gets its address when somebody asks for it.
const Simulated = struct {
    slices: [64][*]const u8 = undefined,
    count: u32 = 0,

    fn address(self: *Simulated, comptime T: type, slice_: []const T) u32 {
        self.slices[self.count] = @ptrCast(slice_.ptr);
        self.count += 1;
        return self.count * 8;
    }

    fn slice(self: *Simulated, comptime T: type, at: u32, length: u32) []const T {
        if (length == 0) return &.{};
        const start: [*]const T = @ptrCast(@alignCast(self.slices[at / 8 - 1]));
        return start[0..length];
    }
};

const everything: wabbit.Properties = .{
    .content_type = "",
    .content_encoding = "gzip",
    .headers = &.{
        .{ .name = "yes", .value = .{ .boolean = true } },
        .{ .name = "no", .value = .{ .boolean = false } },
        .{ .name = "least", .value = .{ .integer = std.math.minInt(i64) } },
        .{ .name = "most", .value = .{ .integer = std.math.maxInt(i64) } },
        .{ .name = "float", .value = .{ .float = -std.math.inf(f64) } },
        .{ .name = "text", .value = .{ .text = "tëxt" } },
        .{ .name = "", .value = .{ .text = "" } },
        .{ .name = "binary", .value = .{ .binary = "\x00\xff" } },
        .{ .name = "timestamp", .value = .{ .timestamp = std.math.maxInt(u64) } },
        .{ .name = "json", .value = .{ .json = "[1]" } },
        .{ .name = "void", .value = .void },
    },
    .persistent = true,
    .priority = 0,
    .correlation_id = "c",
    .reply_to = "r",
    .expiration_ms = std.math.maxInt(u32),
    .message_id = "m",
    .timestamp = std.math.maxInt(u64),
    .kind = "k",
    .user_id = "u",
    .app_id = "ключ",
};

test "deliveries there and back" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    for ([_]wabbit.Properties{ .{}, everything }) |properties| {
        var memory: Simulated = .{};
        const record: Delivery = .{
            .body = listOf(&memory, u8, "\xff\x00"),
            .properties = try writeProperties(&memory, arena.allocator(), properties),
            .exchange = listOf(&memory, u8, "e"),
            .routing_key = listOf(&memory, u8, "k.ä"),
            .queue = .{},
            .redelivered = 1,
            .attempt = std.math.maxInt(u32),
        };
        const expected: wabbit.Delivery = .{
            .body = "\xff\x00",
            .properties = properties,
            .exchange = "e",
            .routing_key = "k.ä",
            .redelivered = true,
            .attempt = std.math.maxInt(u32),
        };
        try std.testing.expectEqualDeep(expected, try readDelivery(&memory, arena.allocator(), &record));
    }
}

test "outcomes" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    const check = struct {
        fn check(allocator: Allocator, outcome: wabbit.Outcome, first: u32, second: u32, third: u32) !void {
            var memory: Simulated = .{};
            const result = try writeOutcome(&memory, allocator, outcome);
            try std.testing.expectEqual(Result{ .first = first, .second = second, .third = third }, result);
        }
    }.check;
    try check(arena.allocator(), .ack, 0, 0, 0);
    try check(arena.allocator(), .requeue, 1, 0, 0);
    try check(arena.allocator(), .retry, 2, 0, 0);
    try check(arena.allocator(), .retryAfter(0), 2, 1, 0);
    try check(arena.allocator(), .retryAfter(500), 2, 1, 500);
    try check(arena.allocator(), .deadLetter("why"), 3, 8, 3);
}

test "publications and failures" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    var memory: Simulated = .{};
    const one: wabbit.Publication = .text("x", "k", "b");
    const outcome: wabbit.Outcome = .{ .settlement = .ack, .publications = &.{ one, one } };
    const result = try writeOutcome(&memory, arena.allocator(), outcome);
    const records = memory.slice(Publication, result.publications.address, result.publications.length);
    try std.testing.expectEqual(2, records.len);
    try std.testing.expectEqualStrings("b", bytes(&memory, records[1].body));
    try std.testing.expectEqualStrings("text/plain", optional(&memory, records[1].properties.content_type).?);
    const failure = writeFailure(&memory, "broke");
    try std.testing.expectEqual(1, failure.failed);
    try std.testing.expectEqualStrings("broke", memory.slice(u8, failure.first, failure.second));
}

test "a text that is not UTF-8 is a failure" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    var memory: Simulated = .{};
    const headers: []const wabbit.Header = &.{.{ .name = "n", .value = .{ .text = "b\xff" } }};
    for ([_]wabbit.Publication{
        .text("", "b\xff", ""),
        .{ .exchange = "", .routing_key = "", .properties = .{ .headers = headers } },
        .{ .exchange = "", .routing_key = "", .properties = .{ .kind = "b\xff" } },
    }) |publication| {
        const outcome: wabbit.Outcome = .{ .settlement = .ack, .publications = &.{publication} };
        try std.testing.expectError(error.Failed, writeOutcome(&memory, arena.allocator(), outcome));
        try std.testing.expectEqualStrings(
            "the outcome cannot be carried out: \"b\\xff\" is not UTF-8",
            wabbit.problem.text(),
        );
    }
}
