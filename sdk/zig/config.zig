//! What the manifest tells a handler: `[grant] config` and `[grant] secrets`. A handler that calls nothing here imports
//! nothing for it. What is returned lives until the handler's outcome has been read.

const std = @import("std");
const wabbit = @import("wabbit.zig");
const host = @import("host.zig");

pub const Setting = extern struct {
    name_: host.Text,
    value_: host.Text,

    pub fn of(setting_name: []const u8, setting_value: []const u8) Setting {
        return .{ .name_ = .of(setting_name), .value_ = .of(setting_value) };
    }

    pub fn name(setting: Setting) []const u8 {
        return setting.name_.slice();
    }

    pub fn value(setting: Setting) []const u8 {
        return setting.value_.slice();
    }
};

/// The value of that name; null where the manifest has none.
pub fn get(name: []const u8) ?[]const u8 {
    if (!host.in_host) {
        for (provided) |setting| if (std.mem.eql(u8, setting.name(), name)) return setting.value();
        return null;
    }
    if (!std.unicode.utf8ValidateSlice(name)) return null;
    // The values are there before a handler begins, so that reading them cannot fail.
    var answer: imports.Answer = undefined;
    imports.get(name.ptr, name.len, &answer);
    return if (answer.failed == 0 and answer.some != 0) answer.text.slice() else null;
}

/// The same. Where the manifest has none, a failure that names it.
pub fn require(name: []const u8) error{Failed}![]const u8 {
    return get(name) orelse wabbit.fail("the manifest grants no value `{s}`", .{name});
}

/// The same of a secret, which is not printed by accident.
pub fn secret(name: []const u8) error{Failed}!Secret {
    return .{ .hidden = .of(try require(name)) };
}

/// All names with their values. Secrets are left out.
pub fn all() []const Setting {
    if (!host.in_host) return provided;
    var answer: imports.ListAnswer = undefined;
    imports.@"get-all"(&answer);
    return if (answer.failed != 0 or answer.len == 0) &.{} else answer.ptr[0..answer.len];
}

/// A value that shows itself as `***` where it is printed with `{f}`, and as an address with `{any}`.
pub const Secret = struct {
    hidden: host.Text,

    /// The value itself.
    pub fn expose(secret_: Secret) []const u8 {
        return secret_.hidden.slice();
    }

    pub fn format(_: Secret, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        try writer.writeAll("***");
    }
};

var provided: []const Setting = &.{};

/// For tests: the settings and secrets that are there from now on. They are not copied.
pub fn provide(settings: []const Setting) void {
    if (host.in_host) @compileError("the manifest provides settings; this is for tests");
    provided = settings;
}

const imports = struct {
    /// result<option<string>, error>
    const Answer = extern struct { failed: u8, some: u8 align(4), text: host.Text };
    /// result<list<tuple<string, string>>, error>
    const ListAnswer = extern struct { failed: u8, ptr: [*]const Setting align(4), len: usize, rest_of_error: u32 };

    extern "wasi:config/store@0.2.0-rc.1" fn get(name: [*]const u8, len: usize, answer: *Answer) void;
    extern "wasi:config/store@0.2.0-rc.1" fn @"get-all"(answer: *ListAnswer) void;
};

test "settings are provided" {
    try std.testing.expectEqual(null, get("from"));
    try std.testing.expectError(error.Failed, require("from"));
    try std.testing.expectEqualStrings("the manifest grants no value `from`", wabbit.problem.text());
    provide(&.{ .of("from", "shop@example.com"), .of("token", "hunter2") });
    defer provide(&.{});
    try std.testing.expectEqualStrings("shop@example.com", try require("from"));
    try std.testing.expectEqual(2, all().len);
    const token = try secret("token");
    try std.testing.expectEqualStrings("hunter2", token.expose());
    var buffer: [100]u8 = undefined;
    try std.testing.expectEqualStrings("***", try std.fmt.bufPrint(&buffer, "{f}", .{token}));
}
