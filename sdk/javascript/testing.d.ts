/** What a handler's own tests say about settings, stores, files and servers, which a manifest grants in a host. */

import type { HttpRequest } from "./index.js";

/** What is there for a handler from now on. What is not named is not there; each call forgets the one before. */
export function provide(provided?: Provided): void;

export interface Provided {
  /** What `config.get` answers, and `config.all`. */
  config?: { [name: string]: string };
  /** What `config.secret` and `config.get` answer. */
  secrets?: { [name: string]: string };
  /** Stores by their names, each with what is in it by its keys. The only one goes by `default`, too. */
  keyvalue?: { [store: string]: { [key: string]: string | Uint8Array } };
  /** Folders by their paths in the handler, each with what is in its files. They are kept in memory. */
  files?: { [folder: string]: { [name: string]: string | Uint8Array } };
  /** Answers a request, or throws an `HttpError`. */
  http?: (request: HttpRequest) => Answer;
}

/** What a test answers to a request. */
export interface Answer {
  /** 200 by default. */
  status?: number;
  headers?: { [name: string]: string } | Iterable<readonly [string, string]>;
  body?: string | Uint8Array | ArrayBuffer;
  text?: string;
  json?: unknown;
}
