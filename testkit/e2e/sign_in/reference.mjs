#!/usr/bin/env node
// A second opinion: oidc-provider, which others wrote and certified, set up as the authorization server of one MCP resource, with
// metadata documents, dynamic registration, PKCE, resource indicators, revocation and `iss` in its redirects. In front of UPSTREAM
// it asks for a token of its own at /mcp. Anybody who presses "allow" is signed in. Prints one line of JSON once it listens.
//
//   reference.mjs UPSTREAM_ORIGIN [PORT]          NODE_EXTRA_CA_CERTS lets it trust the host of metadata documents
import http from 'node:http';
import Provider, { errors } from 'oidc-provider';
import { REGISTERED, SCOPES } from './known.mjs';

const [upstream, wanted = '0'] = process.argv.slice(2);
if (!upstream) { console.error('usage: reference.mjs UPSTREAM_ORIGIN [PORT]'); process.exit(2); }

function authorizationServer(issuer) {
  const resources = new Set([`${issuer}/mcp`, `${issuer}/mcp/other`]);
  const provider = new Provider(issuer, {
    clients: REGISTERED.map(client => ({ ...client, application_type: 'native', grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] })),
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post'],
    clientDefaults: { grant_types: ['authorization_code', 'refresh_token'], id_token_signed_response_alg: 'RS256' },
    responseTypes: ['code'],
    scopes: SCOPES,
    pkce: { required: () => true },
    routes: { authorization: '/oauth/authorize', token: '/oauth/token', registration: '/oauth/register', revocation: '/oauth/revoke', jwks: '/oauth/keys' },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    cookies: { keys: ['not a secret: this runs in tests'] },
    rotateRefreshToken: true,
    issueRefreshToken: async (ctx, client, code) => client.grantTypeAllowed('refresh_token'),
    ttl: { AccessToken: 900, AuthorizationCode: 60, Grant: 86400, IdToken: 900, Interaction: 600, RefreshToken: 86400, Session: 86400 },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      revocation: { enabled: true, allowedPolicy: async (ctx, client, token) => token.clientId === client.clientId },
      clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
      resourceIndicators: {
        enabled: true,
        defaultResource: (ctx, client, oneOf) => (oneOf ? [oneOf].flat()[0] : `${issuer}/mcp`),
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => {
          if (!resources.has(resource)) throw new errors.InvalidTarget();
          return { scope: SCOPES.join(' '), audience: resource, accessTokenFormat: 'opaque' };
        },
      },
    },
    // Its own fetch refuses addresses of this machine, where the host of the documents is.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  return provider;
}

const page = body => `<!doctype html><html lang="en"><head><title>Reference</title></head><body><main><h1>Reference</h1>${body}</main></body></html>`;

async function interaction(provider, request, response) {
  const details = await provider.interactionDetails(request, response);
  if (request.method === 'GET') {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    return response.end(page(`<form method="post"><button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button></form>`));
  }
  let body = '';
  for await (const chunk of request) body += chunk;
  if (new URLSearchParams(body).get('decision') !== 'allow') return provider.interactionFinished(request, response, { error: 'access_denied' });
  if (details.prompt.name === 'login') return provider.interactionFinished(request, response, { login: { accountId: 'person' } });
  const { accountId } = details.session, clientId = details.params.client_id;
  const grant = (details.grantId && await provider.Grant.find(details.grantId)) || new provider.Grant({ accountId, clientId });
  const { missingOIDCScope = [], missingResourceScopes = {} } = details.prompt.details;
  if (missingOIDCScope.length) grant.addOIDCScope(missingOIDCScope.join(' '));
  for (const [resource, scopes] of Object.entries(missingResourceScopes)) grant.addResourceScope(resource, scopes.join(' '));
  return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

/** The resource server: a token for exactly this resource, or the challenge of RFC 6750 and RFC 9728. */
async function mcp(issuer, provider, request, response) {
  const token = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
  const found = token && await provider.AccessToken.find(token);
  if (!found || found.isExpired || found.aud !== `${issuer}/mcp`) {
    const error = token ? ', error="invalid_token"' : '';
    response.writeHead(401, { 'www-authenticate': `Bearer resource_metadata="${issuer}/.well-known/oauth-protected-resource/mcp", scope="mcp"${error}` });
    return response.end();
  }
  const to = new URL(request.url, upstream);
  const { authorization, ...headers } = request.headers; // the token is ours, and goes no further
  const upward = http.request(to, { method: request.method, headers: { ...headers, host: to.host } }, reply => {
    response.writeHead(reply.statusCode, reply.headers);
    reply.pipe(response);
  });
  upward.on('error', () => response.destroy());
  response.on('close', () => upward.destroy());
  request.pipe(upward);
}

const server = http.createServer();
server.listen(Number(wanted), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = authorizationServer(issuer);
  const answer = provider.callback();
  server.on('request', (request, response) => {
    const { pathname, searchParams } = new URL(request.url, issuer);
    const done = error => { if (error) { console.error(error); response.destroy(); } };
    if (pathname === '/mcp') return mcp(issuer, provider, request, response).catch(done);
    if (pathname.startsWith('/interaction/')) return interaction(provider, request, response).catch(done);
    if (pathname.startsWith('/.well-known/oauth-protected-resource')) {
      response.setHeader('content-type', 'application/json');
      return response.end(JSON.stringify({ resource: `${issuer}/mcp`, authorization_servers: [issuer], scopes_supported: ['mcp'], bearer_methods_supported: ['header'] }));
    }
    // Who names no scope gets the usual one; the engine by itself would grant nothing.
    if (pathname === '/oauth/authorize' && !searchParams.has('scope')) request.url += '&scope=mcp';
    return answer(request, response);
  });
  console.log(JSON.stringify({ url: issuer }));
});
