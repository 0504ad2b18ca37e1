#!/usr/bin/env node
// A second opinion: oidc-provider, which others wrote and certified, set up (../oidc.mjs) as the authorization server of one MCP
// resource, at our own paths. In front of UPSTREAM it asks for a token of its own at /mcp. Anybody who presses "allow" is signed in.
// Prints one line of JSON once it listens.
//
//   reference.mjs UPSTREAM_ORIGIN [PORT]          NODE_EXTRA_CA_CERTS lets it trust the host of metadata documents
import http from 'node:http';
import { ALLOW_OR_DENY, authority, interaction, listen, page } from '../oidc.mjs';
import { REGISTERED, SCOPES } from './known.mjs';

const [upstream, wanted = '0'] = process.argv.slice(2);
if (!upstream) { console.error('usage: reference.mjs UPSTREAM_ORIGIN [PORT]'); process.exit(2); }

const authorizationServer = issuer => authority(issuer, {
  resources: new Set([`${issuer}/mcp`, `${issuer}/mcp/other`]),
  resourceServer: resource => ({ scope: SCOPES.join(' '), audience: resource, accessTokenFormat: 'opaque' }),
  defaultResource: `${issuer}/mcp`,
  clients: REGISTERED.map(client => ({ ...client, application_type: 'native', grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] })),
  clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post'],
  clientDefaults: { grant_types: ['authorization_code', 'refresh_token'], id_token_signed_response_alg: 'RS256' },
  scopes: SCOPES,
  routes: { authorization: '/oauth/authorize', token: '/oauth/token', registration: '/oauth/register', revocation: '/oauth/revoke', jwks: '/oauth/keys' },
  ttl: { AccessToken: 900, AuthorizationCode: 60, Grant: 86400, IdToken: 900, Interaction: 600, RefreshToken: 86400, Session: 86400 },
});

const asked = page('Reference', ALLOW_OR_DENY);
const way = { pages: { login: asked, consent: asked }, accountOf: () => 'person' };

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

listen(wanted, issuer => {
  const provider = authorizationServer(issuer);
  const answer = provider.callback();
  return (request, response) => {
    const { pathname, searchParams } = new URL(request.url, issuer);
    if (pathname === '/mcp') return mcp(issuer, provider, request, response);
    if (pathname.startsWith('/interaction/')) return interaction(provider, way, request, response);
    if (pathname.startsWith('/.well-known/oauth-protected-resource')) {
      response.setHeader('content-type', 'application/json');
      return response.end(JSON.stringify({ resource: `${issuer}/mcp`, authorization_servers: [issuer], scopes_supported: ['mcp'], bearer_methods_supported: ['header'] }));
    }
    // Who names no scope gets the usual one; the engine by itself would grant nothing.
    if (pathname === '/oauth/authorize' && !searchParams.has('scope')) request.url += '&scope=mcp';
    return answer(request, response);
  };
});
