/**
 * Promises that settle within one call.
 *
 * A plugin has no event loop: the host calls it, and it answers. The engine never runs the jobs that its own promises
 * wait for, and gives no way to. So these take the place of its `Promise`, with a queue that `finish` runs to its end
 * before the handler's answer is looked at. The build rewrites async functions so that they use them.
 */

const PENDING = 0;
const FULFILLED = 1;
const REJECTED = 2;

let queue = [];
/** Rejected promises that nobody has asked for their result, and their reasons. */
const unhandled = new Map();
export function enqueue(job) {
  queue.push(job);
}

function runJobs() {
  // The length is read anew each time: jobs add jobs.
  for (let next = 0; next < queue.length; next += 1) {
    const job = queue[next];
    queue[next] = undefined;
    job();
  }
  queue = [];
}

/** What the handler answered, once nothing is left to be done. */
export function finish(answer) {
  let state = FULFILLED;
  let value = answer;
  if (typeof answer?.then === "function") {
    state = PENDING;
    const settle = (as) => (result) => {
      state = as;
      value = result;
    };
    WabbitPromise.resolve(answer).then(settle(FULFILLED), settle(REJECTED));
  }
  try {
    runJobs();
    if (state === REJECTED) throw value;
    // Nobody would ever see these: a promise that was not awaited has failed.
    for (const reason of unhandled.values()) throw reason;
  } finally {
    queue = [];
    unhandled.clear();
  }
  if (state === PENDING) {
    throw new Error("the handler's promise is still pending, and nothing is left that could settle it");
  }
  return value;
}

class WabbitPromise {
  #state = PENDING;
  #value;
  #reactions = [];
  #handled = false;

  constructor(executor) {
    if (typeof executor !== "function") throw new TypeError("a promise is made with a function");
    const { resolve, reject } = this.#resolvers();
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  /** Two functions of which only the first call counts. */
  #resolvers() {
    let called = false;
    const once = (settle) => (value) => {
      if (called) return;
      called = true;
      settle(value);
    };
    return { resolve: once((value) => this.#resolve(value)), reject: once((reason) => this.#settle(REJECTED, reason)) };
  }

  #resolve(value) {
    if (value === this) return this.#settle(REJECTED, new TypeError("a promise cannot wait for itself"));
    if (value === null || (typeof value !== "object" && typeof value !== "function")) {
      return this.#settle(FULFILLED, value);
    }
    let then;
    try {
      then = value.then;
    } catch (error) {
      return this.#settle(REJECTED, error);
    }
    if (typeof then !== "function") return this.#settle(FULFILLED, value);
    enqueue(() => {
      const { resolve, reject } = this.#resolvers();
      try {
        then.call(value, resolve, reject);
      } catch (error) {
        reject(error);
      }
    });
  }

  #settle(state, value) {
    this.#state = state;
    this.#value = value;
    if (state === REJECTED && !this.#handled) unhandled.set(this, value);
    const reactions = this.#reactions;
    this.#reactions = undefined;
    for (const reaction of reactions) enqueue(reaction);
  }

  then(onFulfilled, onRejected) {
    const { promise, resolve, reject } = capability(this.constructor?.[Symbol.species] ?? WabbitPromise);
    const reaction = () => {
      const fulfilled = this.#state === FULFILLED;
      const handler = fulfilled ? onFulfilled : onRejected;
      if (typeof handler !== "function") return (fulfilled ? resolve : reject)(this.#value);
      try {
        resolve(handler(this.#value));
      } catch (error) {
        reject(error);
      }
    };
    if (!this.#handled) {
      this.#handled = true;
      unhandled.delete(this);
    }
    if (this.#state === PENDING) this.#reactions.push(reaction);
    else enqueue(reaction);
    return promise;
  }

  catch(onRejected) {
    return this.then(undefined, onRejected);
  }

  finally(onFinally) {
    if (typeof onFinally !== "function") return this.then(onFinally, onFinally);
    return this.then(
      (value) => WabbitPromise.resolve(onFinally()).then(() => value),
      (reason) =>
        WabbitPromise.resolve(onFinally()).then(() => {
          throw reason;
        }),
    );
  }

  get [Symbol.toStringTag]() {
    return "Promise";
  }

  static get [Symbol.species]() {
    return this;
  }

  static resolve(value) {
    if (value instanceof WabbitPromise && value.constructor === this) return value;
    return new this((resolve) => resolve(value));
  }

  static reject(reason) {
    return new this((_, reject) => reject(reason));
  }

  static withResolvers() {
    return capability(this);
  }

  static try(callback, ...given) {
    return new this((resolve) => resolve(callback(...given)));
  }

  static all(promises) {
    return collect(this, promises, (item, set, { reject }) => item.then(set, reject));
  }

  static allSettled(promises) {
    return collect(this, promises, (item, set) =>
      item.then(
        (value) => set({ status: "fulfilled", value }),
        (reason) => set({ status: "rejected", reason }),
      ),
    );
  }

  static any(promises) {
    const finish = (errors, { reject }) => reject(new AggregateError(errors, "all promises were rejected"));
    return collect(this, promises, (item, set, { resolve }) => item.then(resolve, set), finish);
  }

  static race(promises) {
    return new this((resolve, reject) => {
      for (const item of promises) this.resolve(item).then(resolve, reject);
    });
  }
}

function capability(Constructor) {
  const made = {};
  made.promise = new Constructor((resolve, reject) => {
    made.resolve = resolve;
    made.reject = reject;
  });
  return made;
}

/** A promise of all results in their order: `wire` says what counts as one, `finish` what becomes of them. */
function collect(Constructor, promises, wire, finish = (results, { resolve }) => resolve(results)) {
  const made = capability(Constructor);
  try {
    const results = [];
    // One more than there are, so that none of them finishes before all are known.
    let missing = 1;
    const arrived = () => {
      missing -= 1;
      if (missing === 0) finish(results, made);
    };
    let count = 0;
    for (const item of promises) {
      const index = count;
      count += 1;
      missing += 1;
      const set = (result) => {
        results[index] = result;
        arrived();
      };
      wire(Constructor.resolve(item), set, made);
    }
    arrived();
  } catch (error) {
    made.reject(error);
  }
  return made.promise;
}

Object.defineProperty(WabbitPromise, "name", { value: "Promise" });

export { WabbitPromise as Promise };
