//! Greets whomever a message names.

const std = @import("std");
const wabbit = @import("wabbit");
const Outcome = wabbit.Outcome;

pub const panic = wabbit.panic;
pub const std_options = wabbit.std_options;

comptime {
    wabbit.serve(handle);
}

fn handle(arena: std.mem.Allocator, delivery: *const wabbit.Delivery) !Outcome {
    const name = try delivery.text();
    if (name.len == 0) return .deadLetter("there is nobody to greet");
    std.log.info("greeting {s}", .{name});
    const greeting = try std.fmt.allocPrint(arena, "Hello, {s}!", .{name});
    return Outcome.ack.publish(arena, &.{.text("", "greetings", greeting)});
}

fn check(body: []const u8, expected: Outcome) !void {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    const outcome = try handle(arena.allocator(), &.{ .body = body });
    try std.testing.expectEqualDeep(expected, outcome);
}

test "Ada is greeted" {
    try check("Ada", .{ .settlement = .ack, .publications = &.{.text("", "greetings", "Hello, Ada!")} });
}

test "nobody is not greeted" {
    try check("", .deadLetter("there is nobody to greet"));
}
