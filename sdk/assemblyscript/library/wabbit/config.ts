// What the manifest tells a handler: `[grant] config` and `[grant] secrets`.

import { optionalTextAt, textAt } from "./layout";
import { release } from "./lent";
import { ProblemKind, Result, failed } from "./result";
import { encodeUtf8 } from "./utf8";

@external("wasi:config/store@0.2.0-rc.1", "get")
declare function hostGet(name: usize, length: u32, result: usize): void;

@external("wasi:config/store@0.2.0-rc.1", "get-all")
declare function hostGetAll(result: usize): void;

// The values are there before a handler begins, so that reading them cannot fail: what the first byte of an answer is
// set for never comes.

/** The value of that name in the manifest's `config` or `secrets`; null where it is in neither. */
export function setting(name: string): string | null {
  const bytes = encodeUtf8(name);
  const result = memory.data(16);
  hostGet(changetype<usize>(bytes), bytes.byteLength, result);
  const value = load<u8>(result) == 0 ? optionalTextAt(result + 4) : null;
  release();
  return value;
}

/** The same, and a problem where there is none. */
export function requiredSetting(name: string): Result<string> {
  const value = setting(name);
  if (value === null) return failed<string>(`the manifest grants no value \`${name}\``, ProblemKind.NotGranted);
  return new Result<string>(value);
}

/** The same of a secret, which is not printed by accident. */
export function secret(name: string): Result<Secret> {
  const found = requiredSetting(name);
  const problem = found.problem;
  if (problem !== null) return failed<Secret>(problem, found.kind);
  return new Result<Secret>(new Secret(found.value));
}

/** All names of `config` with their values. Secrets are left out. */
export function settings(): Map<string, string> {
  const all = new Map<string, string>();
  const result = memory.data(16);
  hostGetAll(result);
  if (load<u8>(result) == 0) {
    const list = load<usize>(result, 4);
    const count = load<i32>(result, 8);
    for (let i = 0; i < count; i++) all.set(textAt(list + i * 16), textAt(list + i * 16 + 8));
  }
  release();
  return all;
}

/** A value that shows itself as `***`. */
export class Secret {
  constructor(private hidden: string) {}

  /** The value itself. */
  expose(): string {
    return this.hidden;
  }

  toString(): string {
    return "***";
  }
}
