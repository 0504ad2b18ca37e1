// What the front found out about the request that an engine is working on: the credential presented, claims, audiences.
import { AsyncLocalStorage } from 'node:async_hooks';

export const current = new AsyncLocalStorage();
