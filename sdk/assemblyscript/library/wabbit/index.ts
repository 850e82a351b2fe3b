// What a handler imports.

export { Delivery } from "./delivery";
export { Field, FieldKind, Header, Properties } from "./properties";
export { Publication } from "./publication";
export { Outcome, Settlement, SettlementKind } from "./outcome";
export { log, remainingMs, worker } from "./host";
export { serve } from "./serve";
export { Json, JsonKind, JsonWriter } from "./json";
export { ProblemKind, Result } from "./result";
export { Secret, requiredSetting, secret, setting, settings } from "./config";
export { Store } from "./keyvalue";
export { HttpHeader, Request, Response } from "./http";
export { appendFile, readFile, readTextFile, removeFile, renameFile, writeFile, writeTextFile } from "./files";
