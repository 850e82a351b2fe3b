/** What a test provides in place of a manifest. */

export const state = { config: new Map(), secrets: new Map(), stores: new Map(), folders: [], files: new Map(), answer: undefined };
