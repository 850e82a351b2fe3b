//! What a handler for wabbit is written with: one function from a delivery to an outcome.
//!
//!     const wabbit = @import("wabbit");
//!     pub const panic = wabbit.panic;
//!     pub const std_options = wabbit.std_options;
//!     comptime { wabbit.serve(handle); }
//!
//!     fn handle(arena: Allocator, delivery: *const wabbit.Delivery) !wabbit.Outcome { … }
//!
//! A returned error is a failure: nothing is published, and the manifest's failure policy decides about retries. Its
//! text is the error's name, or what `fail` was given. The errors of `Delivery.text` and `Delivery.json` are dead
//! letters.

const std = @import("std");
const builtin = @import("builtin");
const Allocator = std.mem.Allocator;

const host = @import("host.zig");
const layout = @import("layout.zig");

/// Settings and secrets of the manifest.
pub const config = @import("config.zig");
/// The store of the manifest.
pub const keyvalue = @import("keyvalue.zig");
/// HTTP requests.
pub const http = @import("http.zig");
/// Files, in the folders that the manifest grants.
pub const files = @import("files.zig");

/// Exports the handler under the names of the contract. For a `comptime` block; outside of wasm, as in tests, it does
/// nothing.
pub const serve = host.serve;
/// The worker's name, which is its manifest's. Outside of a host it is "test".
pub const worker = host.worker;
/// Milliseconds until the time limit. Outside of a host, as in tests, they are 5000.
pub const remainingMs = host.remainingMs;
/// For the root file's `pub const panic`: writes the message to the host's log, then ends the instance with a trap.
pub const panic = host.panic;
/// For the root file's `pub const std_options`: `std.log` writes to the host's log, a line each.
pub const std_options: std.Options = host.std_options;

/// One value of an AMQP field table.
pub const Field = union(enum) {
    boolean: bool,
    integer: i64,
    float: f64,
    /// UTF-8.
    text: []const u8,
    /// A byte array, or a long string that is not UTF-8.
    binary: []const u8,
    /// Seconds since the Unix epoch.
    timestamp: u64,
    /// A decimal, nested table or array, as JSON text.
    json: []const u8,
    /// A name without a value.
    void,
};

/// Names are case-sensitive, and unique in a publication. Those that start with `x-wabbit-` are the host's.
pub const Header = struct { name: []const u8, value: Field };

/// The basic properties of AMQP 0-9-1. Null is a property that is not set. Texts hold at most 255 bytes each.
pub const Properties = struct {
    content_type: ?[]const u8 = null,
    content_encoding: ?[]const u8 = null,
    /// In the order of the message.
    headers: []const Header = &.{},
    /// Whether the message survives a restart of the broker in a durable queue.
    persistent: bool = false,
    /// Higher is delivered first, in queues declared with priorities.
    priority: ?u8 = null,
    /// Says which request a reply belongs to.
    correlation_id: ?[]const u8 = null,
    /// The queue that a reply is to be sent to, through the default exchange.
    reply_to: ?[]const u8 = null,
    /// Milliseconds after which the message expires in its queue.
    expiration_ms: ?u32 = null,
    message_id: ?[]const u8 = null,
    /// Seconds since the Unix epoch.
    timestamp: ?u64 = null,
    /// AMQP's `type`.
    kind: ?[]const u8 = null,
    /// The user who published the message, checked by the broker.
    user_id: ?[]const u8 = null,
    app_id: ?[]const u8 = null,
};

/// A message as the broker delivered it. It is there until the handler's outcome has been read, and no longer.
pub const Delivery = struct {
    /// The body, whatever it is. `text` and `json` read it.
    body: []const u8 = "",
    properties: Properties = .{},
    /// The exchange that it was published to. Empty is the default exchange.
    exchange: []const u8 = "",
    /// The routing key that it was published with.
    routing_key: []const u8 = "",
    /// The queue that it was consumed from.
    queue: []const u8 = "",
    /// Whether the broker may have delivered it before.
    redelivered: bool = false,
    /// 1 on the first try, and one more for each recorded failure.
    attempt: u32 = 1,

    /// The body, where it is UTF-8.
    pub fn text(delivery: *const Delivery) error{BodyUnreadable}![]const u8 {
        if (std.unicode.utf8ValidateSlice(delivery.body)) return delivery.body;
        problem.set("the body is not UTF-8 text", .{});
        return error.BodyUnreadable;
    }

    /// The body as the JSON of a `T`. Members that `T` lacks are passed over. What it points to is in the arena, or in
    /// the body.
    pub fn json(delivery: *const Delivery, comptime T: type, arena: Allocator) error{ BodyUnreadable, OutOfMemory }!T {
        var scanner: std.json.Scanner = .initCompleteInput(arena, delivery.body);
        var place: std.json.Scanner.Diagnostics = .{};
        scanner.enableDiagnostics(&place);
        return std.json.parseFromTokenSourceLeaky(T, arena, &scanner, .{ .ignore_unknown_fields = true }) catch |err| {
            if (err == error.OutOfMemory) return error.OutOfMemory;
            problem.set("the body is not the JSON expected: {t} at line {d} column {d}", .{
                err, place.getLine(), place.getColumn(),
            });
            return error.BodyUnreadable;
        };
    }

    /// The value of the first header of that name. Names are case-sensitive.
    pub fn header(delivery: *const Delivery, name: []const u8) ?Field {
        for (delivery.properties.headers) |h| if (std.mem.eql(u8, h.name, name)) return h.value;
        return null;
    }

    /// The value of the header of that name, where it is a text.
    pub fn headerText(delivery: *const Delivery, name: []const u8) ?[]const u8 {
        return switch (delivery.header(name) orelse return null) {
            .text => |value| value,
            else => null,
        };
    }

    /// A publication to the delivery's reply-to queue through the default exchange, with its correlation id. Null where
    /// it has no reply-to, and so nobody waits for one. The manifest grants replies as "reply".
    pub fn reply(delivery: *const Delivery, body: []const u8) ?Publication {
        return .{
            .exchange = "",
            .routing_key = delivery.properties.reply_to orelse return null,
            .body = body,
            .properties = .{ .correlation_id = delivery.properties.correlation_id },
        };
    }
};

/// A message to be published. The manifest grants exchanges and routing keys; publishing elsewhere is a failure of the
/// delivery.
pub const Publication = struct {
    /// Empty is the default exchange, which routes to the queue that the routing key names.
    exchange: []const u8,
    /// At most 255 bytes.
    routing_key: []const u8,
    body: []const u8 = "",
    properties: Properties = .{},

    /// A text, with the content type `text/plain`.
    pub fn text(exchange: []const u8, routing_key: []const u8, body: []const u8) Publication {
        return .{
            .exchange = exchange,
            .routing_key = routing_key,
            .body = body,
            .properties = .{ .content_type = "text/plain" },
        };
    }

    /// The value as JSON, with the content type `application/json`.
    pub fn json(
        arena: Allocator,
        exchange: []const u8,
        routing_key: []const u8,
        value: anytype,
    ) error{OutOfMemory}!Publication {
        return .{
            .exchange = exchange,
            .routing_key = routing_key,
            .body = try std.json.Stringify.valueAlloc(arena, value, .{}),
            .properties = .{ .content_type = "application/json" },
        };
    }
};

/// What becomes of a delivery once every publication is confirmed. All but `ack` are nacks.
pub const Settlement = union(enum) {
    /// Done: the broker forgets it.
    ack,
    /// Back on its queue at once; after a pause where it came back before.
    requeue,
    /// Again after so many milliseconds, 100 ms to 7 days; by the manifest's backoff where it is null.
    retry: ?u32,
    /// Never again: to the dead-letter queue, with this reason.
    dead_letter: []const u8,
};

/// The answer to a delivery. What it points to must outlive the handler's return: the arena does, the stack does not.
pub const Outcome = struct {
    settlement: Settlement,
    /// Published and confirmed, whatever the settlement, before it is carried out.
    publications: []const Publication = &.{},

    pub const ack: Outcome = .{ .settlement = .ack };
    pub const requeue: Outcome = .{ .settlement = .requeue };
    /// Again after the manifest's backoff.
    pub const retry: Outcome = .{ .settlement = .{ .retry = null } };

    pub fn retryAfter(ms: u32) Outcome {
        return .{ .settlement = .{ .retry = ms } };
    }

    pub fn deadLetter(reason: []const u8) Outcome {
        return .{ .settlement = .{ .dead_letter = reason } };
    }

    /// Adds publications, after those already there. The list is copied into the arena, so that it may be written where
    /// it is used: `Outcome.ack.publish(arena, &.{greeting})`.
    pub fn publish(outcome: Outcome, arena: Allocator, publications: []const Publication) error{OutOfMemory}!Outcome {
        return .{
            .settlement = outcome.settlement,
            .publications = try std.mem.concat(arena, Publication, &.{ outcome.publications, publications }),
        };
    }
};

/// A failure with a text: `return wabbit.fail("no stock of {s}", .{product})`. Texts are cut at 4 KiB.
pub fn fail(comptime format: []const u8, arguments: anytype) error{Failed} {
    problem.set(format, arguments);
    return error.Failed;
}

/// What went wrong: Zig's errors have a name and no text. It is set where one of our errors is returned.
pub const problem = struct {
    var buffer: [4096]u8 = undefined;
    var length: usize = 0;

    /// The text of the last error that was one of ours.
    pub fn text() []const u8 {
        return buffer[0..length];
    }

    /// Whether an error is one of ours.
    pub fn isOf(err: anyerror) bool {
        return switch (err) {
            error.Failed, error.BodyUnreadable => true,
            error.HttpNotGranted, error.HttpRequest, error.HttpConnection, error.HttpTimeout => true,
            error.HttpTooLarge, error.HttpStatus, error.HttpBody, error.HttpFailed => true,
            error.FileNotGranted, error.FileMissing, error.FileFailed => true,
            else => false,
        };
    }

    pub fn set(comptime format: []const u8, arguments: anytype) void {
        var writer: std.Io.Writer = .fixed(&buffer);
        writer.print(format, arguments) catch {}; // the rest is cut off
        length = writer.end;
        // What is cut within a character loses that character.
        if (length == buffer.len) {
            for (0..3) |_| {
                if (std.unicode.utf8ValidateSlice(buffer[0..length])) break;
                length -= 1;
            }
        }
        // What quotes a message may hold anything.
        if (!std.unicode.utf8ValidateSlice(buffer[0..length])) {
            for (buffer[0..length]) |*byte| byte.* = if (byte.* < 0x80) byte.* else '?';
        }
    }
};

test {
    _ = layout;
    _ = @import("arena.zig");
    _ = config;
    _ = keyvalue;
    _ = http;
    _ = files;
}

test "a body is read as text" {
    const read: Delivery = .{ .body = "hällo" };
    try std.testing.expectEqualStrings("hällo", try read.text());
    const unreadable: Delivery = .{ .body = "h\xffllo" };
    try std.testing.expectError(error.BodyUnreadable, unreadable.text());
    try std.testing.expectEqualStrings("the body is not UTF-8 text", problem.text());
}

test "a body is read as JSON" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    const Order = struct { id: u32, product: []const u8 = "hay" };
    const order: Delivery = .{ .body = "{\"id\": 7, \"more\": [1]}" };
    const read = try order.json(Order, arena.allocator());
    try std.testing.expectEqual(7, read.id);
    try std.testing.expectEqualStrings("hay", read.product);
    for ([_][2][]const u8{
        .{ "{}", "the body is not the JSON expected: MissingField at line 1 column 3" },
        .{ "{\n \"id\": \"x\"}", "the body is not the JSON expected: InvalidCharacter at line 2 column 11" },
        .{ "", "the body is not the JSON expected: UnexpectedEndOfInput at line 1 column 1" },
    }) |case| {
        const bad: Delivery = .{ .body = case[0] };
        try std.testing.expectError(error.BodyUnreadable, bad.json(Order, arena.allocator()));
        try std.testing.expectEqualStrings(case[1], problem.text());
    }
}

test "headers and replies" {
    const delivery: Delivery = .{ .properties = .{
        .reply_to = "answers",
        .correlation_id = "7",
        .headers = &.{
            .{ .name = "Tenant", .value = .{ .text = "acme" } },
            .{ .name = "n", .value = .{ .integer = 1 } },
        },
    } };
    try std.testing.expectEqualStrings("acme", delivery.headerText("Tenant").?);
    try std.testing.expectEqual(null, delivery.headerText("tenant"));
    try std.testing.expectEqual(null, delivery.headerText("n"));
    const expected: Publication = .{
        .exchange = "",
        .routing_key = "answers",
        .body = "pong",
        .properties = .{ .correlation_id = "7" },
    };
    try std.testing.expectEqualDeep(expected, delivery.reply("pong").?);
    const nobody: Delivery = .{};
    try std.testing.expectEqual(null, nobody.reply("pong"));
}

test "publications keep their order" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    const one: Publication = .text("", "1", "a");
    const two: Publication = try .json(arena.allocator(), "x", "2", .{ .text = "ä\"" });
    try std.testing.expectEqualStrings("{\"text\":\"ä\\\"\"}", two.body);
    const first = try Outcome.retryAfter(5).publish(arena.allocator(), &.{one});
    const outcome = try first.publish(arena.allocator(), &.{two});
    const expected: Outcome = .{ .settlement = .{ .retry = 5 }, .publications = &.{ one, two } };
    try std.testing.expectEqualDeep(expected, outcome);
}

test "the text of a failure is UTF-8, wherever it is cut" {
    const long: [4095]u8 = @splat('a');
    try std.testing.expectEqual(error.Failed, fail("{s}{s}", .{ &long, "ä" }));
    try std.testing.expectEqualStrings(&long, problem.text());
    try std.testing.expectEqual(error.Failed, fail("short {s}", .{"ä\xff"}));
    try std.testing.expectEqualStrings("short ???", problem.text());
}
