//! HTTP requests, to the origins that the manifest's `[grant] http` lists. A handler that sends none imports nothing
//! for them.
//!
//! A request takes place at once, not with the settlement: a delivery that is tried again sends it again. Redirects are
//! not followed; the response says where it points to in its header `location`. The errors have their text in
//! `wabbit.problem`, and so has the delivery, where one is returned.

const std = @import("std");
const wabbit = @import("wabbit.zig");
const host = @import("host.zig");
const Allocator = std.mem.Allocator;

pub const Error = error{
    /// The manifest does not list the origin, or its address is of a network that it does not list.
    HttpNotGranted,
    /// The request has no form that could be sent: its URL, its method or a header.
    HttpRequest,
    /// The server cannot be found or reached.
    HttpConnection,
    /// Somebody took too long.
    HttpTimeout,
    /// The body of the request or of the response is larger than the host allows.
    HttpTooLarge,
    /// The response has a status other than 200 to 299, and `success` was asked for.
    HttpStatus,
    /// The response's body is not what the handler reads.
    HttpBody,
    /// Anything else.
    HttpFailed,
    OutOfMemory,
};

pub const Header = struct { name: []const u8, value: []const u8 };

/// A request to be sent.
pub const Request = struct {
    method: []const u8 = "GET",
    /// `https://HOST/PATH?QUERY`, or `http://…`. What has a meaning there is written as `%xx`: see `query`.
    url: []const u8,
    /// `host` and what concerns the connection is the host's to say.
    headers: []const Header = &.{},
    /// Empty for none.
    body: []const u8 = "",
    /// How long each of connecting, waiting for the response and waiting for its next part may take. The host has
    /// limits of its own, and the delivery's time bounds it all.
    timeout_ms: ?u32 = null,

    /// Sends it, and waits for the whole response, whatever its status.
    pub fn send(request: Request, arena: Allocator) Error!Response {
        if (host.in_host) return @import("http_host.zig").send(&request, arena);
        const function = answering orelse
            return fail(error.HttpConnection, "nobody answers: a test says how, by `http.answer`", .{});
        return function(arena, &request);
    }

    /// The request with another header.
    pub fn header(request: Request, arena: Allocator, name: []const u8, value: []const u8) Error!Request {
        var more = request;
        more.headers = try std.mem.concat(arena, Header, &.{ request.headers, &.{.{ .name = name, .value = value }} });
        return more;
    }

    /// The request with that token in its header `authorization`.
    pub fn bearer(request: Request, arena: Allocator, token: []const u8) Error!Request {
        return request.header(arena, "authorization", try std.mem.concat(arena, u8, &.{ "Bearer ", token }));
    }

    /// The request with a text as its body, and its content type.
    pub fn text(request: Request, arena: Allocator, body: []const u8) Error!Request {
        var more = try request.header(arena, "content-type", "text/plain; charset=utf-8");
        more.body = body;
        return more;
    }

    /// The request with a value as JSON, and its content type.
    pub fn json(request: Request, arena: Allocator, value: anytype) Error!Request {
        var more = try request.header(arena, "content-type", "application/json");
        more.body = try std.json.Stringify.valueAlloc(arena, value, .{});
        return more;
    }
};

/// Gets that URL.
pub fn get(arena: Allocator, url: []const u8) Error!Response {
    const request: Request = .{ .url = url };
    return request.send(arena);
}

/// A URL with parameters in its query, whatever signs are in them.
pub fn query(arena: Allocator, url: []const u8, parameters: []const Header) error{OutOfMemory}![]const u8 {
    var all: std.ArrayList(u8) = .empty;
    try all.appendSlice(arena, url);
    for (parameters) |parameter| {
        try all.append(arena, if (std.mem.findScalar(u8, all.items, '?') == null) '?' else '&');
        try escape(&all, arena, parameter.name);
        try all.append(arena, '=');
        try escape(&all, arena, parameter.value);
    }
    return all.items;
}

fn escape(all: *std.ArrayList(u8), arena: Allocator, text: []const u8) error{OutOfMemory}!void {
    for (text) |byte| switch (byte) {
        'a'...'z', 'A'...'Z', '0'...'9', '-', '.', '_', '~' => try all.append(arena, byte),
        else => try all.appendSlice(arena, &.{ '%', "0123456789ABCDEF"[byte >> 4], "0123456789ABCDEF"[byte & 15] }),
    };
}

/// What came back. It lives until the handler's outcome has been read.
pub const Response = struct {
    status: u16 = 200,
    /// Names are in lower case.
    headers: []const Header = &.{},
    /// The whole of it.
    body: []const u8 = "",

    /// The value of the first header of that name, in whatever case.
    pub fn header(response: Response, name: []const u8) ?[]const u8 {
        for (response.headers) |h| if (std.ascii.eqlIgnoreCase(h.name, name)) return h.value;
        return null;
    }

    /// The response itself where its status is one of 200 to 299, else an error with the beginning of the body.
    pub fn success(response: Response) Error!Response {
        if (response.status >= 200 and response.status < 300) return response;
        const shown_bytes_max = 200;
        var end = @min(response.body.len, shown_bytes_max);
        // A character that is cut in two is left out.
        while (end > 0 and end < response.body.len and response.body[end] & 0xc0 == 0x80) end -= 1;
        const text_ = std.mem.trim(u8, response.body[0..end], &std.ascii.whitespace);
        const colon = if (text_.len > 0) ": " else "";
        return fail(error.HttpStatus, "the server answered {d}{s}{s}", .{ response.status, colon, text_ });
    }

    /// The body, where it is UTF-8.
    pub fn text(response: Response) Error![]const u8 {
        if (std.unicode.utf8ValidateSlice(response.body)) return response.body;
        return fail(error.HttpBody, "the response is not UTF-8", .{});
    }

    /// The body as the JSON of a `T`. Members that `T` lacks are passed over.
    pub fn json(response: Response, comptime T: type, arena: Allocator) Error!T {
        return std.json.parseFromSliceLeaky(T, arena, response.body, .{ .ignore_unknown_fields = true }) catch |err| {
            if (err == error.OutOfMemory) return error.OutOfMemory;
            return fail(error.HttpBody, "the response is not the JSON expected: {t}", .{err});
        };
    }
};

/// An error with a text, for tests that answer with one.
pub fn fail(err: Error, comptime format: []const u8, arguments: anytype) Error {
    wabbit.problem.set(format, arguments);
    return err;
}

pub const Answer = fn (arena: Allocator, request: *const Request) Error!Response;
var answering: ?*const Answer = null;

/// For tests: has a function answer all requests from now on; null, nobody.
pub fn answer(function: ?*const Answer) void {
    if (host.in_host) @compileError("servers answer requests; this is for tests");
    answering = function;
}

/// The parts of a URL that a request is made of.
pub const Url = struct {
    scheme: []const u8,
    authority: []const u8,
    /// With the query, without a fragment.
    path: []const u8,

    pub fn parse(url: []const u8) ?Url {
        for (url) |byte| if (byte <= ' ' or byte >= 0x7f) return null;
        const colon = std.mem.find(u8, url, "://") orelse return null;
        const scheme = url[0..colon];
        if (!std.mem.eql(u8, scheme, "http") and !std.mem.eql(u8, scheme, "https")) return null;
        const all = url[colon + 3 ..];
        const rest = all[0 .. std.mem.findScalar(u8, all, '#') orelse all.len];
        const end = std.mem.findAny(u8, rest, "/?") orelse rest.len;
        if (end == 0) return null;
        return .{ .scheme = scheme, .authority = rest[0..end], .path = if (end == rest.len) "/" else rest[end..] };
    }
};

test "URLs have parts" {
    const check = struct {
        fn check(url: []const u8, expected: ?[3][]const u8) !void {
            const parts: ?[3][]const u8 = if (Url.parse(url)) |u| .{ u.scheme, u.authority, u.path } else null;
            try std.testing.expectEqualDeep(expected, parts);
        }
    }.check;
    try check("https://a.example/b?c#d", .{ "https", "a.example", "/b?c" });
    try check("http://a.example:80", .{ "http", "a.example:80", "/" });
    try check("http://[::1]:80?a=/", .{ "http", "[::1]:80", "?a=/" });
    try check("https://a.example#/b", .{ "https", "a.example", "/" });
    for ([_][]const u8{ "a.example/b", "https:///b", "https://", "ftp://a/b", "http://a/b c", "", "/?b=http:/" }) |odd|
        try check(odd, null);
}

fn echo(arena: Allocator, request: *const Request) Error!Response {
    const seen = try std.mem.join(arena, " ", &.{ request.method, request.url, request.body });
    return .{ .status = 201, .headers = request.headers, .body = seen };
}

fn refuse(_: Allocator, request: *const Request) Error!Response {
    if (std.mem.eql(u8, request.method, "PUT")) return fail(error.HttpTimeout, "too late", .{});
    return .{ .status = 503, .body = " try later " };
}

test "a test answers" {
    var arena_: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena_.deinit();
    const arena = arena_.allocator();
    try std.testing.expectError(error.HttpConnection, get(arena, "https://a.example/"));
    try std.testing.expectEqualStrings("nobody answers: a test says how, by `http.answer`", wabbit.problem.text());

    answer(echo);
    defer answer(null);
    const url = try query(arena, "https://a.example/b", &.{
        .{ .name = "q", .value = "a b&c=ü" },
        .{ .name = "n", .value = "1" },
    });
    var request: Request = .{ .method = "POST", .url = url };
    request = try request.bearer(arena, "t");
    request = try request.json(arena, .{ .id = 7 });
    const response = try (try request.send(arena)).success();
    try std.testing.expectEqualStrings("POST https://a.example/b?q=a%20b%26c%3D%C3%BC&n=1 {\"id\":7}", response.body);
    try std.testing.expectEqualStrings("Bearer t", response.header("Authorization").?);
    try std.testing.expectEqualStrings("application/json", response.header("content-type").?);
    try std.testing.expectEqual(null, response.header("content"));
}

test "what went wrong is told" {
    const arena = std.testing.allocator;
    answer(refuse);
    defer answer(null);
    const response = try get(arena, "https://a.example/");
    try std.testing.expectError(error.HttpStatus, response.success());
    try std.testing.expectEqualStrings("the server answered 503: try later", wabbit.problem.text());
    try std.testing.expectError(error.HttpBody, response.json([]u8, arena));
    const odd: Response = .{ .status = 404, .body = "\xff" };
    try std.testing.expectError(error.HttpBody, odd.text());
    var body: [401]u8 = @splat('a');
    for (0..200) |i| @memcpy(body[1 + 2 * i ..][0..2], "ä");
    const long: Response = .{ .status = 500, .body = &body };
    try std.testing.expectError(error.HttpStatus, long.success());
    try std.testing.expectEqualStrings(body[0..199], wabbit.problem.text()["the server answered 500: ".len..]);
    const late: Request = .{ .method = "PUT", .url = "https://a.example/" };
    try std.testing.expectError(error.HttpTimeout, late.send(arena));
    try std.testing.expectEqualStrings("too late", wabbit.problem.text());
}
