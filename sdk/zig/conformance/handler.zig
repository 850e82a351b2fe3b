//! The conformance handler: what it does is said by the header `do`. The host's tests run the same cases in every
//! language.

const std = @import("std");
const wabbit = @import("wabbit");
const Allocator = std.mem.Allocator;
const Outcome = wabbit.Outcome;
const Publication = wabbit.Publication;

pub const panic = wabbit.panic;
pub const std_options = wabbit.std_options;

comptime {
    wabbit.serve(handle);
}

const Do = enum {
    echo,
    describe,
    many,
    ack,
    requeue,
    retry,
    @"dead-letter",
    @"error",
    trap,
    loop,
    memory,
    log,
    json,
    context,
    churn,
};

fn handle(arena: Allocator, delivery: *const wabbit.Delivery) !Outcome {
    const do = delivery.headerText("do") orelse "";
    const what = std.meta.stringToEnum(Do, do) orelse {
        return Outcome.deadLetter(try std.fmt.allocPrint(arena, "unknown: {s}", .{do}));
    };
    switch (what) {
        .echo => return Outcome.ack.publish(arena, &.{.{
            .exchange = delivery.exchange,
            .routing_key = delivery.routing_key,
            .body = delivery.body,
            .properties = delivery.properties,
        }}),
        .describe => {
            const text = try std.fmt.allocPrint(arena, "queue={s} exchange={s} key={s} redelivered={} attempt={d}", .{
                delivery.queue, delivery.exchange, delivery.routing_key, delivery.redelivered, delivery.attempt,
            });
            return Outcome.ack.publish(arena, &.{.text("", "described", text)});
        },
        .many => {
            const many = try arena.alloc(Publication, @intCast(integer(delivery, "count") orelse 0));
            for (many, 0..) |*publication, i| {
                const key = try std.fmt.allocPrint(arena, "many.{d}", .{i});
                publication.* = .text("", key, key["many.".len..]);
            }
            return .{ .settlement = .ack, .publications = many };
        },
        .ack => return .ack,
        .requeue => return .requeue,
        .retry => return if (integer(delivery, "ms")) |ms| .retryAfter(@intCast(ms)) else .retry,
        .@"dead-letter" => return .deadLetter(delivery.body),
        .@"error" => return wabbit.fail("{s}", .{delivery.body}),
        .trap => @panic("planted bug"),
        .loop => while (true) {},
        .memory => while (true) @memset(try arena.alloc(u8, 1 << 20), 1),
        .log => {
            std.log.info("{s}", .{delivery.body});
            return .ack;
        },
        .json => {
            const text = try delivery.text();
            const length = std.unicode.utf8CountCodepoints(text) catch unreachable;
            return Outcome.ack.publish(arena, &.{try .json(arena, "", "json", .{ .text = text, .length = length })});
        },
        .context => {
            const text = try std.fmt.allocPrint(arena, "worker={s} remaining={}", .{
                wabbit.worker(), wabbit.remainingMs() > 0,
            });
            return Outcome.ack.publish(arena, &.{.text("", "context", text)});
        },
        .churn => {
            for (0..1000) |_| @memset(try arena.alloc(u8, 100), 1);
            return .ack;
        },
    }
}

fn integer(delivery: *const wabbit.Delivery, name: []const u8) ?i64 {
    return switch (delivery.header(name) orelse return null) {
        .integer => |value| value,
        else => null,
    };
}
