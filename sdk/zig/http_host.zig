//! Requests by way of wasi:http. The names and layouts are those that the canonical ABI gives sdk/wit/deps.

const std = @import("std");
const wabbit = @import("wabbit.zig");
const host = @import("host.zig");
const http = @import("http.zig");
const Allocator = std.mem.Allocator;

/// How much of a response is read at once.
const piece_bytes = 64 * 1024;

pub fn send(request: *const http.Request, arena: Allocator) http.Error!http.Response {
    const url = http.Url.parse(request.url) orelse return malformed(request, "its URL", "");
    const outgoing = imports.@"[constructor]outgoing-request"(try fields(request, arena));
    setUp(request, arena, outgoing, &url) catch |err| {
        imports.@"[resource-drop]outgoing-request"(outgoing);
        return err;
    };
    var body: Owned = .{ .failed = 1, .handle = 0 };
    if (request.body.len > 0) {
        imports.@"[method]outgoing-request.body"(outgoing, &body);
        if (body.failed != 0) {
            imports.@"[resource-drop]outgoing-request"(outgoing);
            return malformed(request, "its body", "");
        }
    }
    const limits: i32 = if (request.timeout_ms) |ms| options(ms) else 0;
    var sent: Sent = undefined;
    imports.handle(outgoing, @intFromBool(request.timeout_ms != null), limits, &sent);
    if (sent.case != 0) {
        if (body.failed == 0) imports.@"[resource-drop]outgoing-body"(body.handle);
        return tell(request, &sent.value.code);
    }
    if (body.failed == 0) writeBody(body.handle, request.body);

    const waiting = imports.@"[method]future-incoming-response.subscribe"(sent.value.handle);
    imports.@"[method]pollable.block"(waiting);
    imports.@"[resource-drop]pollable"(waiting);
    var come: Come = undefined;
    imports.@"[method]future-incoming-response.get"(sent.value.handle, &come);
    imports.@"[resource-drop]future-incoming-response"(sent.value.handle);
    if (come.some == 0 or come.result.failed != 0) return failed(request, error.HttpFailed, "there is no response", "");
    if (come.result.sent.case != 0) return tell(request, &come.result.sent.value.code);
    return readResponse(request, come.result.sent.value.handle, arena);
}

// ---- the request ----

fn fields(request: *const http.Request, arena: Allocator) http.Error!i32 {
    const handle = imports.@"[constructor]fields"();
    errdefer imports.@"[resource-drop]fields"(handle);
    const length: http.Header = .{
        .name = "content-length",
        .value = try std.fmt.allocPrint(arena, "{d}", .{request.body.len}),
    };
    const said = (http.Response{ .headers = request.headers }).header(length.name) != null;
    const more: []const http.Header = if (said or request.body.len == 0) &.{} else &.{length};
    for ([_][]const http.Header{ request.headers, more }) |list| for (list) |header| {
        var result: [2]u8 = .{ 1, 0 };
        const name, const value = .{ header.name, header.value };
        if (std.unicode.utf8ValidateSlice(name))
            imports.@"[method]fields.append"(handle, name.ptr, name.len, value.ptr, value.len, &result);
        if (result[0] != 0) return malformed(request, "its header ", name);
    };
    return handle;
}

fn setUp(request: *const http.Request, arena: Allocator, outgoing: i32, url: *const http.Url) http.Error!void {
    const Method = enum { GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH };
    const other = @typeInfo(Method).@"enum".field_names.len;
    const text = request.method;
    const method: u32 = if (std.meta.stringToEnum(Method, text)) |known| @backingInt(known) else other;
    if (!std.unicode.utf8ValidateSlice(text) or
        imports.@"[method]outgoing-request.set-method"(outgoing, method, text.ptr, text.len) != 0)
        return malformed(request, "its method", "");
    const scheme = @intFromBool(std.mem.eql(u8, url.scheme, "https"));
    if (imports.@"[method]outgoing-request.set-scheme"(outgoing, 1, scheme, "", 0) != 0)
        return malformed(request, "its scheme", "");
    if (imports.@"[method]outgoing-request.set-authority"(outgoing, 1, url.authority.ptr, url.authority.len) != 0)
        return malformed(request, "its host", "");
    const path = if (url.path[0] == '?') try std.mem.concat(arena, u8, &.{ "/", url.path }) else url.path;
    if (imports.@"[method]outgoing-request.set-path-with-query"(outgoing, 1, path.ptr, path.len) != 0)
        return malformed(request, "its path", "");
}

fn options(ms: u32) i32 {
    const nanos = @as(u64, ms) * std.time.ns_per_ms;
    const handle = imports.@"[constructor]request-options"();
    // A host that does not take it has limits of its own.
    _ = imports.@"[method]request-options.set-connect-timeout"(handle, 1, nanos);
    _ = imports.@"[method]request-options.set-first-byte-timeout"(handle, 1, nanos);
    _ = imports.@"[method]request-options.set-between-bytes-timeout"(handle, 1, nanos);
    return handle;
}

/// A server that does not read on may have answered all the same.
fn writeBody(body: i32, bytes: []const u8) void {
    if (writeStream(body, bytes)) {
        var finished: Sent = undefined;
        imports.@"[static]outgoing-body.finish"(body, 0, 0, &finished);
    } else imports.@"[resource-drop]outgoing-body"(body);
}

fn writeStream(body: i32, bytes: []const u8) bool {
    var stream: Owned = undefined;
    imports.@"[method]outgoing-body.write"(body, &stream);
    if (stream.failed != 0) return false;
    defer imports.@"[resource-drop]output-stream"(stream.handle);
    const ready = imports.@"[method]output-stream.subscribe"(stream.handle);
    defer imports.@"[resource-drop]pollable"(ready);
    var rest = bytes;
    while (rest.len > 0) {
        imports.@"[method]pollable.block"(ready);
        var room: Room = undefined;
        imports.@"[method]output-stream.check-write"(stream.handle, &room);
        if (room.failed != 0) return room.value.failure.drop();
        const count: usize = @intCast(@min(room.value.bytes, rest.len));
        var written: Written = undefined;
        imports.@"[method]output-stream.write"(stream.handle, rest.ptr, count, &written);
        if (written.failed != 0) return written.failure.drop();
        rest = rest[count..];
    }
    return true;
}

// ---- the response ----

fn readResponse(request: *const http.Request, incoming: i32, arena: Allocator) http.Error!http.Response {
    defer imports.@"[resource-drop]incoming-response"(incoming);
    const handle = imports.@"[method]incoming-response.headers"(incoming);
    var entries: Entries = undefined;
    imports.@"[method]fields.entries"(handle, &entries);
    imports.@"[resource-drop]fields"(handle);
    const headers = try arena.alloc(http.Header, entries.len);
    for (headers, 0..) |*header, i|
        header.* = .{ .name = entries.ptr[i].name.slice(), .value = entries.ptr[i].value.slice() };

    var body: Owned = undefined;
    imports.@"[method]incoming-response.consume"(incoming, &body);
    if (body.failed != 0) return failed(request, error.HttpFailed, "the response has no body", "");
    defer imports.@"[resource-drop]incoming-body"(body.handle);
    var stream: Owned = undefined;
    imports.@"[method]incoming-body.stream"(body.handle, &stream);
    if (stream.failed != 0) return failed(request, error.HttpFailed, "the response has no body", "");
    defer imports.@"[resource-drop]input-stream"(stream.handle);
    return .{
        .status = @intCast(imports.@"[method]incoming-response.status"(incoming)),
        .headers = headers,
        .body = try readStream(request, stream.handle, arena),
    };
}

/// Reads to the end. The host writes one piece behind the other, unless something else takes memory in between.
fn readStream(request: *const http.Request, stream: i32, arena: Allocator) http.Error![]const u8 {
    var body: []const u8 = "";
    while (true) {
        var piece: Piece = undefined;
        imports.@"[method]input-stream.blocking-read"(stream, piece_bytes, &piece);
        if (piece.failed == 0) {
            const bytes = piece.value.bytes.slice();
            if (body.len == 0) {
                body = bytes;
            } else if (body.ptr + body.len == bytes.ptr) {
                body.len += bytes.len;
            } else {
                body = try std.mem.concat(arena, u8, &.{ body, bytes });
            }
        } else if (piece.value.failure.closed != 0) {
            return body;
        } else {
            const failure = piece.value.failure.handle;
            defer imports.@"[resource-drop]error"(failure);
            var code: Sent = undefined;
            imports.@"http-error-code"(failure, &code);
            if (code.case != 0) return tell(request, &code.value.code);
            var text: host.Text = undefined;
            imports.@"[method]error.to-debug-string"(failure, &text);
            return failed(request, error.HttpFailed, text.slice(), "");
        }
    }
}

// ---- errors ----

fn malformed(request: *const http.Request, what: []const u8, more: []const u8) http.Error {
    var buffer: [512]u8 = undefined;
    const shown = more[0..@min(more.len, 256)];
    const text = std.fmt.bufPrint(&buffer, "the request cannot be sent for {s}{s}", .{ what, shown }) catch what;
    return failed(request, error.HttpRequest, text, "");
}

fn failed(request: *const http.Request, err: http.Error, text: []const u8, more: []const u8) http.Error {
    // Without path and query, which may hold what is nobody's business.
    const url = http.Url.parse(request.url) orelse
        return http.fail(err, "{s}: {s}{s}", .{ request.method, text, more });
    return http.fail(err, "{s} {s}://{s}: {s}{s}", .{ request.method, url.scheme, url.authority, text, more });
}

const Code = struct { []const u8, http.Error, enum { nothing, text, alert, size, section } };

const codes = [_]Code{
    .{ "dns timeout", error.HttpTimeout, .nothing },
    .{ "dns error", error.HttpConnection, .text },
    .{ "destination not found", error.HttpConnection, .nothing },
    .{ "destination unavailable", error.HttpConnection, .nothing },
    .{ "its address is of a network that the manifest's `[grant] http` does not name", error.HttpNotGranted, .nothing },
    .{ "destination ip unroutable", error.HttpFailed, .nothing },
    .{ "connection refused", error.HttpConnection, .nothing },
    .{ "connection terminated", error.HttpConnection, .nothing },
    .{ "connection timeout", error.HttpTimeout, .nothing },
    .{ "connection read timeout", error.HttpTimeout, .nothing },
    .{ "connection write timeout", error.HttpTimeout, .nothing },
    .{ "connection limit reached", error.HttpConnection, .nothing },
    .{ "tls protocol error", error.HttpConnection, .nothing },
    .{ "tls certificate error", error.HttpConnection, .nothing },
    .{ "tls alert received", error.HttpConnection, .alert },
    .{ "not granted by the manifest's `[grant] http`", error.HttpNotGranted, .nothing },
    .{ "http request length required", error.HttpRequest, .nothing },
    .{ "http request body size", error.HttpTooLarge, .size },
    .{ "http request method invalid", error.HttpRequest, .nothing },
    .{ "http request uri invalid", error.HttpRequest, .nothing },
    .{ "http request uri too long", error.HttpFailed, .nothing },
    .{ "http request header section size", error.HttpFailed, .section },
    .{ "http request header size", error.HttpFailed, .nothing },
    .{ "http request trailer section size", error.HttpFailed, .section },
    .{ "http request trailer size", error.HttpFailed, .text },
    .{ "http response incomplete", error.HttpFailed, .nothing },
    .{ "http response header section size", error.HttpTooLarge, .section },
    .{ "http response header size", error.HttpFailed, .text },
    .{ "http response body size", error.HttpTooLarge, .size },
    .{ "http response trailer section size", error.HttpFailed, .section },
    .{ "http response trailer size", error.HttpFailed, .text },
    .{ "http response transfer coding", error.HttpFailed, .text },
    .{ "http response content coding", error.HttpFailed, .text },
    .{ "http response timeout", error.HttpTimeout, .nothing },
    .{ "http upgrade failed", error.HttpFailed, .nothing },
    .{ "http protocol error", error.HttpFailed, .nothing },
    .{ "loop detected", error.HttpFailed, .nothing },
    .{ "configuration error", error.HttpFailed, .nothing },
    .{ "internal error", error.HttpFailed, .text },
};

comptime {
    std.debug.assert(codes.len == 39);
}

fn tell(request: *const http.Request, code: *const ErrorCode) http.Error {
    if (code.case >= codes.len) return failed(request, error.HttpFailed, "an unknown error", "");
    const text, const err, const carries = codes[code.case];
    var buffer: [512]u8 = undefined;
    const more = switch (carries) {
        .nothing => "",
        .text => told(&buffer, code.value.text),
        .alert => told(&buffer, code.value.alert.message),
        .size => counted(&buffer, code.value.size.some, code.value.size.value),
        .section => counted(&buffer, code.value.section.some, code.value.section.value),
    };
    return failed(request, err, text, more);
}

fn told(buffer: []u8, option: OptionalText) []const u8 {
    if (option.some == 0) return "";
    const text = option.text.slice();
    return std.fmt.bufPrint(buffer, ": {s}", .{text[0..@min(text.len, buffer.len - 2)]}) catch "";
}

fn counted(buffer: []u8, some: u8, value: u64) []const u8 {
    return if (some == 0) "" else std.fmt.bufPrint(buffer, ": {d}", .{value}) catch "";
}

// ---- layouts ----

const OptionalText = extern struct { some: u8, text: host.Text };

const ErrorCode = extern struct {
    case: u8,
    value: extern union {
        /// Also the name in a DNS error, and in a field's size.
        text: OptionalText,
        alert: extern struct { some: u8, id: u8, message: OptionalText },
        size: extern struct { some: u8, value: u64 },
        section: extern struct { some: u8, value: u32 },
        /// option<field-size-payload>, the largest.
        rest: [24]u8,
    },
};

/// result<own<…>, error-code>, result<_, error-code> and option<error-code>.
const Sent = extern struct { case: u8, value: extern union { handle: i32, code: ErrorCode } };
/// option<result<result<own<incoming-response>, error-code>>>
const Come = extern struct { some: u8, result: extern struct { failed: u8, sent: Sent } };
/// result<own<…>>
const Owned = extern struct { failed: u8, handle: i32 };

const StreamError = extern struct {
    closed: u8,
    handle: i32,

    /// For a stream that nobody asks why.
    fn drop(failure: StreamError) bool {
        if (failure.closed == 0) imports.@"[resource-drop]error"(failure.handle);
        return false;
    }
};
const Piece = extern struct { failed: u8, value: extern union { bytes: host.Text, failure: StreamError } };
const Room = extern struct { failed: u8, value: extern union { bytes: u64, failure: StreamError } };
const Written = extern struct { failed: u8, failure: StreamError };
const Entries = extern struct { ptr: [*]const extern struct { name: host.Text, value: host.Text }, len: usize };

comptime {
    for ([_][2]usize{
        .{ @sizeOf(ErrorCode), 32 }, .{ @offsetOf(ErrorCode, "value"), 8 },
        .{ @sizeOf(Sent), 40 },      .{ @sizeOf(Come), 56 },
        .{ @sizeOf(Piece), 12 },     .{ @sizeOf(Room), 16 },
        .{ @sizeOf(Written), 12 },   .{ @sizeOf(Owned), 8 },
    }) |pair| std.debug.assert(pair[0] == pair[1]);
}

/// Linked only where the handler sends requests.
const imports = struct {
    extern "wasi:http/types@0.2.0" fn @"[constructor]fields"() i32;
    extern "wasi:http/types@0.2.0" fn @"[method]fields.append"(
        i32,
        [*]const u8,
        usize,
        [*]const u8,
        usize,
        *[2]u8,
    ) void;
    extern "wasi:http/types@0.2.0" fn @"[method]fields.entries"(i32, *Entries) void;
    extern "wasi:http/types@0.2.0" fn @"[resource-drop]fields"(i32) void;
    extern "wasi:http/types@0.2.0" fn @"[constructor]outgoing-request"(i32) i32;
    extern "wasi:http/types@0.2.0" fn @"[method]outgoing-request.body"(i32, *Owned) void;
    extern "wasi:http/types@0.2.0" fn @"[method]outgoing-request.set-method"(i32, u32, [*]const u8, usize) u32;
    extern "wasi:http/types@0.2.0" fn @"[method]outgoing-request.set-scheme"(i32, u32, u32, [*]const u8, usize) u32;
    extern "wasi:http/types@0.2.0" fn @"[method]outgoing-request.set-authority"(i32, u32, [*]const u8, usize) u32;
    extern "wasi:http/types@0.2.0" fn @"[method]outgoing-request.set-path-with-query"(i32, u32, [*]const u8, usize) u32;
    extern "wasi:http/types@0.2.0" fn @"[resource-drop]outgoing-request"(i32) void;
    extern "wasi:http/types@0.2.0" fn @"[constructor]request-options"() i32;
    extern "wasi:http/types@0.2.0" fn @"[method]request-options.set-connect-timeout"(i32, u32, u64) u32;
    extern "wasi:http/types@0.2.0" fn @"[method]request-options.set-first-byte-timeout"(i32, u32, u64) u32;
    extern "wasi:http/types@0.2.0" fn @"[method]request-options.set-between-bytes-timeout"(i32, u32, u64) u32;
    extern "wasi:http/outgoing-handler@0.2.0" fn handle(i32, u32, i32, *Sent) void;
    extern "wasi:http/types@0.2.0" fn @"[method]outgoing-body.write"(i32, *Owned) void;
    extern "wasi:http/types@0.2.0" fn @"[static]outgoing-body.finish"(i32, u32, i32, *Sent) void;
    extern "wasi:http/types@0.2.0" fn @"[resource-drop]outgoing-body"(i32) void;
    extern "wasi:http/types@0.2.0" fn @"[method]future-incoming-response.subscribe"(i32) i32;
    extern "wasi:http/types@0.2.0" fn @"[method]future-incoming-response.get"(i32, *Come) void;
    extern "wasi:http/types@0.2.0" fn @"[resource-drop]future-incoming-response"(i32) void;
    extern "wasi:http/types@0.2.0" fn @"[method]incoming-response.status"(i32) u32;
    extern "wasi:http/types@0.2.0" fn @"[method]incoming-response.headers"(i32) i32;
    extern "wasi:http/types@0.2.0" fn @"[method]incoming-response.consume"(i32, *Owned) void;
    extern "wasi:http/types@0.2.0" fn @"[resource-drop]incoming-response"(i32) void;
    extern "wasi:http/types@0.2.0" fn @"[method]incoming-body.stream"(i32, *Owned) void;
    extern "wasi:http/types@0.2.0" fn @"[resource-drop]incoming-body"(i32) void;
    extern "wasi:http/types@0.2.0" fn @"http-error-code"(i32, *Sent) void;
    extern "wasi:io/streams@0.2.0" fn @"[method]input-stream.blocking-read"(i32, u64, *Piece) void;
    extern "wasi:io/streams@0.2.0" fn @"[resource-drop]input-stream"(i32) void;
    extern "wasi:io/streams@0.2.0" fn @"[method]output-stream.subscribe"(i32) i32;
    extern "wasi:io/streams@0.2.0" fn @"[method]output-stream.check-write"(i32, *Room) void;
    extern "wasi:io/streams@0.2.0" fn @"[method]output-stream.write"(i32, [*]const u8, usize, *Written) void;
    extern "wasi:io/streams@0.2.0" fn @"[resource-drop]output-stream"(i32) void;
    extern "wasi:io/poll@0.2.0" fn @"[method]pollable.block"(i32) void;
    extern "wasi:io/poll@0.2.0" fn @"[resource-drop]pollable"(i32) void;
    extern "wasi:io/error@0.2.0" fn @"[method]error.to-debug-string"(i32, *host.Text) void;
    extern "wasi:io/error@0.2.0" fn @"[resource-drop]error"(i32) void;
};
