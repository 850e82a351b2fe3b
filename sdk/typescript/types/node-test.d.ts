/**
 * What unit tests use of Node.js. Its own types (`@types/node`) would make handlers seem to have timers, `fetch` and
 * files, too.
 */

declare module "node:test" {
  export default function test(name: string, body: () => void | Promise<void>): Promise<void>;
}

declare module "node:assert/strict" {
  interface Assert {
    (condition: unknown, message?: string): asserts condition;
    equal<T>(actual: unknown, expected: T, message?: string): asserts actual is T;
    notEqual(actual: unknown, expected: unknown, message?: string): void;
    deepEqual<T>(actual: unknown, expected: T, message?: string): asserts actual is T;
    match(text: string, expected: RegExp, message?: string): void;
    throws(body: () => unknown, expected?: object | RegExp, message?: string): void;
    rejects(body: Promise<unknown> | (() => Promise<unknown>), expected?: object | RegExp): Promise<void>;
  }
  const assert: Assert;
  export default assert;
}
