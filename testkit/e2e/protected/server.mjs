#!/usr/bin/env node
// A protected MCP server on the official TypeScript SDK, with the SDK's own middleware for bearer tokens and resource metadata. It
// serves both eras. `{port, issuer, keys, …}` as notes.mjs reads it.
import { createMcpExpressApp, getOAuthProtectedResourceMetadataUrl, mcpAuthMetadataRouter, requireBearerAuth } from '@modelcontextprotocol/express';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { McpServer, OAuthError, OAuthErrorCode, createMcpHandler } from '@modelcontextprotocol/server';
import { described, fill, isWriting, notes } from './notes.mjs';

const about = described(process.argv[2]);
const { verify, watch, hands } = notes(about);
const resourceServerUrl = new URL(about.resource);

const door = requiredScopes => requireBearerAuth({
  verifier: { verifyAccessToken: verify(text => new OAuthError(OAuthErrorCode.InvalidToken, text)) },
  requiredScopes,
  resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(resourceServerUrl),
  expectedResource: resourceServerUrl,
});
const everybody = door([about.read]), writers = door([about.read, about.write]);
const serve = toNodeHandler(createMcpHandler(({ authInfo }) => fill(new McpServer({ name: 'notes', version: '2.0.0' }), authInfo)));

const app = createMcpExpressApp();
hands(app);
app.use(mcpAuthMetadataRouter({
  oauthMetadata: { issuer: about.issuer, authorization_endpoint: `${about.issuer}/auth`, token_endpoint: `${about.issuer}/token`, response_types_supported: ['code'] },
  resourceServerUrl,
  scopesSupported: [about.read, about.write],
  dangerouslyAllowInsecureIssuerUrl: true,
}));
app.all('/mcp', watch, (request, response, next) => (isWriting(request.body) ? writers : everybody)(request, response, next), (request, response) => serve(request, response, request.body));
app.listen(about.port, '127.0.0.1', () => console.log(JSON.stringify({ url: about.resource })));
