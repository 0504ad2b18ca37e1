// What a program does first with a client that is generated: its types are checked when it is compiled.
import createClient from 'openapi-fetch';
import type { components, paths } from './generated.js';

const key = process.env.MCP_GATEWAY_KEY;
const client = createClient<paths>({ baseUrl: process.env.MCP_GATEWAY_URL, headers: { Authorization: `Bearer ${key}` } });

const listed = await client.GET('/api/v1/servers', { params: { query: { limit: 10 } } });
if (listed.error) throw new Error(listed.error.detail);
const servers: components['schemas']['Server'][] = listed.data.items;
const slugs: string[] = servers.map(server => server.slug);
if (slugs.join() !== 'files') throw new Error(`the servers are ${slugs}`);

const made = await client.POST('/api/v1/users', { body: { username: 'generated', role: 'user' } });
if (made.error || made.data.role !== 'user') throw new Error('no user was made');
const missing = await client.GET('/api/v1/servers/{slug}', { params: { path: { slug: 'none' } } });
if (missing.error?.code !== 'NOT_FOUND') throw new Error('there is no such server');
console.log(`it compiles, and lists ${slugs.length} server`);
