import assert from "node:assert/strict";
import test from "node:test";
import "./engine.js";
import { files } from "../index.js";
import { provide } from "../testing.js";

test("files are written, read and named", () => {
  provide({ files: { "/reports": { old: "text" } } });
  files.makeFolder("/reports/2026/01");
  files.write("/reports/2026/01/new", "one");
  files.append("/reports/2026/01/new", " two");
  files.rename("/reports/2026/01/new", "/reports/./2026/x");
  assert.equal(files.readText("/reports/2026/x"), "one two");
  assert.deepEqual([files.list("/reports"), files.list("/reports/2026/")], [["2026", "old"], ["01", "x"]]);
  files.delete("/reports/old");
  assert.deepEqual(files.list("/reports"), ["2026"]);
  files.write("/reports/bytes", new Uint8Array([0xff]));
  assert.deepEqual(files.read("/reports/bytes"), new Uint8Array([0xff]));
});

test("what is not done has a code", () => {
  provide({ files: { "/reports": { file: "", bytes: new Uint8Array([0xff]) } } });
  const cases = [
    [() => files.read("/other/a"), "not-granted", "cannot read `/other/a`: the manifest grants no folder that it is in"],
    [() => files.write("/reports/../a", ""), "not-granted"],
    [() => files.write("/reportsx", ""), "not-granted"],
    [() => files.read("/reports/a"), "no-entry", "cannot read `/reports/a`: no-entry"],
    [() => files.write("/reports/a/b", ""), "no-entry", "cannot write `/reports/a/b`: no-entry"],
    [() => files.read("/reports"), "is-directory"],
    [() => files.write("/reports", ""), "is-directory"],
    [() => files.list("/reports/file"), "not-directory"],
    [() => files.makeFolder("/reports/file"), "not-directory"],
    [() => files.rename("/reports/a", "/reports/b"), "no-entry"],
    [() => files.readText("/reports/bytes"), "illegal-byte-sequence"],
  ];
  for (const [action, code, message] of cases) {
    assert.throws(action, message === undefined ? { name: "FileError", code } : { name: "FileError", code, message });
  }
  assert.throws(() => files.write("/reports/a"), {
    message: "what is written is a text, a `Uint8Array` or an `ArrayBuffer`",
  });
});
