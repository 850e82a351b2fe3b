/** What a WASI command in D needs: the delivery from stdin, the outcome's JSON, a log.
 *
 * D for wasm is `-betterC`, without the runtime that std.json needs. The reader and writer are those of ../c; memory is
 * freed by the host, with the instance, once the message is handled.
 */
module command;

// ---- from ../c/wabbit.h and wabbit_json.h ----

extern (C) nothrow @nogc {
    struct Str {
        const(char)* ptr;
        size_t len;
    }

    private struct Error {
        const(char)* what;
        size_t line, column;
    }

    private struct Writer {
        void* call;
        char* ptr;
        size_t len, capacity;
        bool comma;
    }

    private void* wabbit_call_new();
    private bool wabbit_json_parse(Str text, Json* value, Error* error);
    private int wabbit_json_typeof(Json value);
    private Json wabbit_json_get(Json object, const(char)* name);
    private bool wabbit_json_bool(Json value, bool* result);
    private bool wabbit_json_integer(Json value, long* result);
    private bool wabbit_json_double(Json value, double* result);
    private bool wabbit_json_string(void* call, Json value, Str* result);
    private Writer wabbit_json_write(void* call);
    private void wabbit_json_begin_object(Writer*);
    private void wabbit_json_end_object(Writer*);
    private void wabbit_json_begin_array(Writer*);
    private void wabbit_json_end_array(Writer*);
    private void wabbit_json_key_str(Writer*, Str);
    private void wabbit_json_put_string(Writer*, Str);
    private void wabbit_json_put_integer(Writer*, long);
    private void wabbit_json_put_double(Writer*, double);
    private void wabbit_json_put_bool(Writer*, bool);
    private void wabbit_json_put(Writer*, Json);

    // Of libc. The declarations in core.stdc do not know WASI.
    void* malloc(size_t size);
    void free(void* memory);
    noreturn abort();
    noreturn exit(int code);
    private void* realloc(void* memory, size_t size);
    private ptrdiff_t read(int file, void* memory, size_t size);
    private ptrdiff_t write(int file, const(void)* memory, size_t size);
    private const(char)* getenv(const(char)* name);
    private void* fopen(const(char)* path, const(char)* mode);
    private size_t fread(void* memory, size_t size, size_t count, void* file);
    private size_t fwrite(const(void)* memory, size_t size, size_t count, void* file);
    private int ferror(void* file);
    private int fclose(void* file);
    private char* strerror(int error);
}

version (WebAssembly) private extern (C) extern __gshared int errno;
else import core.stdc.errno : errno;

nothrow @nogc:

private __gshared void* memory;

/// What lives until the message is handled.
private void* call() {
    if (memory is null) memory = wabbit_call_new();
    return memory;
}

// ---- reading ----

/// A value in JSON text. A missing member is a value too, that does not exist.
struct Json {
    private Str source;

nothrow @nogc:

    /// The member of that name, which has to end with a zero, as literals do.
    Json opIndex(string name) const {
        return wabbit_json_get(this, name.ptr);
    }

    bool exists() const {
        return wabbit_json_typeof(this) != 0;
    }

    /// The text of a string, empty for anything else.
    const(char)[] text() const {
        Str result;
        return wabbit_json_string(call(), this, &result) ? result.ptr[0 .. result.len] : "";
    }

    /// The value where it is of that type, else the other.
    long integer(long other = 0) const {
        wabbit_json_integer(this, &other);
        return other;
    }

    /// ditto
    double number(double other = 0) const {
        wabbit_json_double(this, &other);
        return other;
    }

    /// ditto
    bool boolean(bool other = false) const {
        wabbit_json_bool(this, &other);
        return other;
    }
}

/// Reads JSON text. False where it is none.
bool tryParse(const(char)[] text, out Json value) {
    return wabbit_json_parse(str(text), &value, null);
}

/// ditto, where the command is to end with that.
Json parse(const(char)[] text) {
    Json value;
    Error error;
    if (wabbit_json_parse(str(text), &value, &error)) return value;
    log("not JSON: ", error.what[0 .. length(error.what)], " at line ", decimal(error.line));
    exit(1);
}

private size_t length(const(char)* text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

/// Reads all of stdin, which is the delivery.
Json readDelivery() {
    return parse(readAll(&readInput, null));
}

private size_t readInput(void* memory, size_t size, void*) {
    const got = read(0, memory, size);
    return got < 0 ? 0 : got;
}

private size_t readSome(void* memory, size_t size, void* file) {
    return fread(memory, 1, size, file);
}

private const(char)[] readAll(size_t function(void*, size_t, void*) nothrow @nogc readSome, void* from) {
    size_t length = 0, capacity = 1 << 16;
    char* text = cast(char*) allocate(null, capacity);
    for (;;) {
        // By a half, so that a large body does not take twice its size.
        if (length == capacity) text = cast(char*) allocate(text, capacity += capacity / 2);
        const got = readSome(text + length, capacity - length, from);
        if (got == 0) return text[0 .. length];
        length += got;
    }
}

private void* allocate(void* old, size_t size) {
    void* memory = realloc(old, size);
    // The host sees that memory was refused.
    if (memory is null) abort();
    return memory;
}

// ---- writing ----

private Str str(const(char)[] text) {
    return Str(text.ptr, text.length);
}

private void put(T)(Writer* writer, T value) {
    static if (is(T : const(char)[])) wabbit_json_put_string(writer, str(value));
    else static if (is(immutable T == immutable bool)) wabbit_json_put_bool(writer, value);
    else static if (is(T : long)) wabbit_json_put_integer(writer, value);
    else static if (is(T : double)) wabbit_json_put_double(writer, value);
    else static if (is(T : const(Json))) wabbit_json_put(writer, value);
    else static if (is(T : U[], U)) {
        wabbit_json_begin_array(writer);
        foreach (each; value) put(writer, each);
        wabbit_json_end_array(writer);
    } else value.putInto(writer);
}

private struct Members(T...) {
    T members;

    void putInto(Writer* writer) const nothrow @nogc {
        wabbit_json_begin_object(writer);
        static foreach (i; 0 .. T.length / 2) {
            // A member that does not exist is left out.
            static if (is(T[2 * i + 1] : const(Json))) {
                if (members[2 * i + 1].exists) putMember(writer, members[2 * i], members[2 * i + 1]);
            } else putMember(writer, members[2 * i], members[2 * i + 1]);
        }
        wabbit_json_end_object(writer);
    }

    private static void putMember(N, V)(Writer* writer, N name, V value) {
        wabbit_json_key_str(writer, str(name));
        put(writer, value);
    }
}

private struct Values(T...) {
    T values;

    void putInto(Writer* writer) const nothrow @nogc {
        wabbit_json_begin_array(writer);
        foreach (value; values) put(writer, value);
        wabbit_json_end_array(writer);
    }
}

/// An object of names and values: texts, numbers, booleans, slices, `Json` (as it was read), records and lists.
auto record(T...)(T members) if (T.length % 2 == 0) {
    return Members!T(members);
}

/// An array of such values.
auto list(T...)(T values) {
    return Values!T(values);
}

/// The text of an object of these names and values.
const(char)[] json(T...)(T members) {
    auto writer = wabbit_json_write(call());
    put(&writer, record(members));
    return writer.ptr[0 .. writer.len];
}

// ---- what the manifest grants ----

/// The value of this name in the manifest's `env` or `secrets`; null where it is in neither.
const(char)[] environment(const(char)[] name) {
    const value = getenv(concat(name, "\0").ptr);
    return value is null ? null : value[0 .. length(value)];
}

/// Why a file could not be read or written: the text is empty where it could.
struct FileError {
    const(char)[] text;

    bool opCast(T : bool)() const nothrow @nogc {
        return text.length > 0;
    }
}

/// Reads a whole file.
FileError readFile(const(char)[] path, out const(char)[] contents) {
    auto file = fopen(concat(path, "\0").ptr, "rb");
    if (file is null) return fileError(path);
    contents = readAll(&readSome, file);
    const error = ferror(file) ? fileError(path) : FileError();
    fclose(file);
    return error;
}

/// Writes a file, in place of the one that is there.
FileError writeFile(const(char)[] path, const(char)[] contents) {
    return writeTo(path, contents, "wb");
}

/// Adds to the end of a file, which is made where there is none.
FileError appendFile(const(char)[] path, const(char)[] contents) {
    return writeTo(path, contents, "ab");
}

private FileError writeTo(const(char)[] path, const(char)[] contents, const(char)* mode) {
    auto file = fopen(concat(path, "\0").ptr, mode);
    if (file is null) return fileError(path);
    const whole = fwrite(contents.ptr, 1, contents.length, file) == contents.length;
    const error = whole ? FileError() : fileError(path);
    // What was kept back is written now.
    const closed = fclose(file) == 0;
    return whole && !closed ? fileError(path) : error;
}

private FileError fileError(const(char)[] path) {
    const why = strerror(errno);
    return FileError(concat(path, ": ", why[0 .. length(why)]));
}

// ---- text ----

/// The parts, one after the other.
const(char)[] concat(T...)(T parts) {
    size_t length = 0;
    static foreach (part; parts) length += part.length;
    char* text = cast(char*) allocate(null, length + 1), end = text;
    static foreach (part; parts) {
        foreach (c; part) *end++ = c;
    }
    return text[0 .. length];
}

/// A number in decimal digits.
const(char)[] decimal(long number) {
    char* text = cast(char*) allocate(null, 20);
    size_t start = 20;
    const negative = number < 0;
    auto rest = negative ? 0 - cast(ulong) number : number;
    do text[--start] = cast(char)('0' + rest % 10);
    while (rest /= 10);
    if (negative) text[--start] = '-';
    return text[start .. 20];
}

private void writeAll(int file, const(char)[] text) {
    while (text.length) {
        const written = write(file, text.ptr, text.length);
        if (written <= 0) abort();
        text = text[written .. $];
    }
}

/// Writes the outcome, which is all that may be on stdout.
void answer(const(char)[] outcome) {
    writeAll(1, outcome);
}

/// Writes the parts as a line to the host's log, which is stderr.
void log(T...)(T parts) {
    writeAll(2, concat(parts, "\n"));
}

/// What the compiler calls where an assertion or a bound does not hold. wasi-libc has none of this name.
version (D_BetterC) extern (C) noreturn __assert(const(char)* what, const(char)* file, int line) {
    log(file[0 .. length(file)], "(", decimal(line), "): ", what[0 .. length(what)]);
    abort();
}
