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
    setting,
    count,
    keep,
    fetch,
    write,
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
        .setting => {
            const value = wabbit.config.get(delivery.headerText("name") orelse "") orelse "none";
            return Outcome.ack.publish(arena, &.{.text("", "setting", value)});
        },
        .count => {
            const key = delivery.headerText("key") orelse "";
            const store = try wabbit.keyvalue.open("default");
            defer store.close();
            const sum = try store.increment(key, @bitCast(integer(delivery, "by") orelse 0));
            const value = try store.get(key) orelse "";
            const text = try std.fmt.allocPrint(arena, "{d}/{s}", .{ sum, value });
            return Outcome.ack.publish(arena, &.{.text("", "count", text)});
        },
        .keep => {
            const key = delivery.headerText("key") orelse "";
            const store = try wabbit.keyvalue.open("default");
            defer store.close();
            try store.set(key, delivery.body);
            const kept = try store.get(key) orelse "";
            try store.delete(key);
            const outcome: Outcome = if (try store.exists(key)) .deadLetter("still there") else .ack;
            return outcome.publish(arena, &.{.{ .exchange = "", .routing_key = "kept", .body = kept }});
        },
        .fetch => return fetch(arena, delivery) catch .deadLetter(wabbit.problem.text()),
        .write => {
            const path = delivery.headerText("path") orelse "";
            wabbit.files.write(path, delivery.body) catch return .deadLetter(wabbit.problem.text());
            const written = wabbit.files.read(arena, path) catch return .deadLetter(wabbit.problem.text());
            return Outcome.ack.publish(arena, &.{.{ .exchange = "", .routing_key = "written", .body = written }});
        },
    }
}

fn fetch(arena: Allocator, delivery: *const wabbit.Delivery) !Outcome {
    const request: wabbit.http.Request = .{
        .method = delivery.headerText("method") orelse "",
        .url = delivery.headerText("url") orelse "",
        .headers = &.{.{ .name = "x-test", .value = "wabbit" }},
        .body = delivery.body,
    };
    const response = try request.send(arena);
    const body = try std.fmt.allocPrint(arena, "{d} {s} {s}", .{
        response.status, response.header("x-answer") orelse "", response.body,
    });
    return Outcome.ack.publish(arena, &.{.{ .exchange = "", .routing_key = "fetched", .body = body }});
}

fn integer(delivery: *const wabbit.Delivery, name: []const u8) ?i64 {
    return switch (delivery.header(name) orelse return null) {
        .integer => |value| value,
        else => null,
    };
}
