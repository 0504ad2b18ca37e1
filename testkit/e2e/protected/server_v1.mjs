#!/usr/bin/env node
// The same on version 1 of the SDK, with sessions, each of which belongs to who opened it: whoever comes to another's is turned away
// and counted as one who strayed (GET /_test/strayed). `{port, issuer, keys, …}` as notes.mjs reads it.
import { randomUUID } from 'node:crypto';
import express from 'express';
import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js';
import { getOAuthProtectedResourceMetadataUrl } from '@modelcontextprotocol/sdk/server/auth/router.js';
import { metadataHandler } from '@modelcontextprotocol/sdk/server/auth/handlers/metadata.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { described, fill, isWriting, notes } from './notes.mjs';

const about = described(process.argv[2]);
const { verify, watch, hands } = notes(about);
const resource = new URL(about.resource);
const metadata = new URL(getOAuthProtectedResourceMetadataUrl(resource));

const door = requiredScopes => requireBearerAuth({
  verifier: { verifyAccessToken: verify(text => new InvalidTokenError(text)) }, requiredScopes, resourceMetadataUrl: metadata.href, expectedResource: resource,
});
const everybody = door([about.read]), writers = door([about.read, about.write]);
const sessions = new Map(); // id → {transport, owner}
let strayed = 0;

async function serve(request, response) {
  const { auth, body } = request, id = request.headers['mcp-session-id'], owner = auth.extra.sub;
  const found = sessions.get(id);
  if (found && found.owner !== owner) {
    strayed++;
    return response.status(404).end();
  }
  if (found) return found.transport.handleRequest(request, response, body);
  if (id || body?.method !== 'initialize') return response.status(id ? 404 : 400).json({ jsonrpc: '2.0', id: null, error: { code: -32000, message: 'no session' } });
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID, onsessioninitialized: opened => { sessions.set(opened, { transport, owner }); } });
  transport.onclose = () => sessions.delete(transport.sessionId);
  await fill(new McpServer({ name: 'notes', version: '1.0.0' }), auth).connect(transport);
  return transport.handleRequest(request, response, body);
}

const app = express();
hands(app);
app.get('/_test/strayed', (request, response) => response.json({ strayed }));
app.use(metadata.pathname, metadataHandler({ resource: resource.href, authorization_servers: [about.issuer], scopes_supported: [about.read, about.write] }));
app.all('/mcp', express.json(), watch, (request, response, next) => (isWriting(request.body) ? writers : everybody)(request, response, next), serve);
app.listen(about.port, '127.0.0.1', () => console.log(JSON.stringify({ url: about.resource })));
