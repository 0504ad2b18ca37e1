#!/usr/bin/env node
// The authorization server of the protected servers: oidc-provider, as strict as it can be set. PKCE always, refresh tokens that are
// good once (one that was replaced ends its family), access tokens (JWT) for exactly one resource, `iss` in redirects, dynamic
// registration for everybody, metadata documents, and clients that an administrator registered: one for each way to prove who one is.
// A person types a name or an address, and is signed in by what stands before the @. Prints one line of JSON once it listens.
//
//   authorization_server.mjs --gateway ORIGIN --resource URL… [--port N]     NODE_EXTRA_CA_CERTS lets it trust the host of documents
//
// Beside what oidc-provider does, it takes what the gateway signs: its word in a token exchange (exchange.mjs). The test's hands, without
// authentication, under /_test: GET counters, POST settings {accessToken, refreshToken: seconds}, POST end {sub}: whatever that person
// agreed to.
import http from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { parseArgs } from 'node:util';
import Provider, { errors } from 'oidc-provider';
import { CLIENTS, READ, WRITE, resourceServer } from './known.mjs';
import { takeWordsOf } from './exchange.mjs';

const { values: options } = parseArgs({ options: { port: { type: 'string', default: '0' }, gateway: { type: 'string' }, resource: { type: 'string', multiple: true } } });
if (!options.gateway || !options.resource) { console.error('usage: authorization_server.mjs --gateway ORIGIN --resource URL… [--port N]'); process.exit(2); }

const settings = { accessToken: 300, refreshToken: 86400 };
/** How a client proved who it is, by what its request holds. */
const wayShown = ctx => (ctx.oidc.body.client_assertion ? 'private_key_jwt' : ctx.headers.authorization ? 'basic' : ctx.oidc.body.client_secret ? 'post' : 'none');
const counters = { tokens: {}, refused: {}, reuse: 0, registrations: 0, documents: 0, revocations: 0, signIns: 0, shown: {} };
const count = (of, name) => { of[name] = (of[name] ?? 0) + 1; };
const grants = new Map(); // account → what it agreed to

function authorizationServer(issuer) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const resources = new Set(options.resource);
  const provider = new Provider(issuer, {
    clients: CLIENTS(options.gateway, issuer),
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'one' }] },
    responseTypes: ['code'],
    scopes: ['offline_access', READ, WRITE],
    pkce: { required: () => true },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    cookies: { keys: ['not a secret: this runs in tests'] },
    rotateRefreshToken: true,
    issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
    ttl: {
      AccessToken: () => settings.accessToken, ClientCredentials: () => settings.accessToken, RefreshToken: () => settings.refreshToken,
      AuthorizationCode: 60, Grant: 86400, IdToken: 900, Interaction: 600, Session: 86400,
    },
    features: {
      devInteractions: { enabled: false },
      userinfo: { enabled: false },
      clientCredentials: { enabled: true },
      registration: { enabled: true },
      revocation: { enabled: true, allowedPolicy: async (ctx, client, token) => token.clientId === client.clientId },
      clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
      resourceIndicators: {
        enabled: true,
        // Who names no resource gets no token for one.
        defaultResource: (ctx, client, oneOf) => (oneOf ? [oneOf].flat()[0] : undefined),
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => {
          if (!resources.has(resource)) throw new errors.InvalidTarget();
          return resourceServer(resource);
        },
      },
    },
    // Its own fetch refuses addresses of this machine, where the gateway's keys and documents are.
    fetch: (url, { dispatcher, ...rest }) => { if (!String(url).endsWith('/oauth/keys')) counters.documents++; return fetch(url, rest); },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  });
  takeWordsOf(options.gateway, provider, resources);
  provider.on('server_error', (ctx, error) => console.error(error));
  provider.on('grant.success', ctx => { count(counters.tokens, ctx.oidc.params.grant_type); count(counters.shown, wayShown(ctx)); });
  provider.on('grant.error', (ctx, error) => {
    count(counters.refused, error.error);
    if (error.error_detail === 'refresh token already used') counters.reuse++;
    console.error(`refused: ${error.error} ${error.error_detail ?? error.error_description}`);
  });
  provider.on('registration_create.success', () => { counters.registrations++; });
  provider.on('grant.saved', grant => grants.set(grant.accountId, (grants.get(grant.accountId) ?? new Set()).add(grant.jti)));
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.oidc?.route === 'revocation' && ctx.status === 200) counters.revocations++;
  });
  return provider;
}

const page = body => `<!doctype html><html lang="en"><head><title>Notes</title></head><body><main><h1>Notes</h1>${body}</main></body></html>`;
const PAGES = {
  login: page('<form method="post"><label>Who are you? <input name="login"></label><button name="decision" value="continue">Continue</button></form>'),
  consent: page('<form method="post"><button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button></form>'),
};

async function interaction(provider, request, response) {
  const details = await provider.interactionDetails(request, response);
  const { name } = details.prompt;
  if (request.method === 'GET') {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    return response.end(PAGES[name]);
  }
  const form = new URLSearchParams(await read(request));
  if (form.get('decision') === 'deny') return provider.interactionFinished(request, response, { error: 'access_denied' });
  if (name === 'login') {
    counters.signIns++;
    return provider.interactionFinished(request, response, { login: { accountId: form.get('login').split('@')[0].toLowerCase() } });
  }
  const { accountId } = details.session, clientId = details.params.client_id;
  const grant = (details.grantId && await provider.Grant.find(details.grantId)) || new provider.Grant({ accountId, clientId });
  const { missingOIDCScope = [], missingResourceScopes = {} } = details.prompt.details;
  if (missingOIDCScope.length) grant.addOIDCScope(missingOIDCScope.join(' '));
  for (const [resource, scopes] of Object.entries(missingResourceScopes)) grant.addResourceScope(resource, scopes.join(' '));
  return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

async function read(request) {
  let body = '';
  for await (const chunk of request) body += chunk;
  return body;
}

const hands = provider => ({
  'GET /_test/counters': () => counters,
  'POST /_test/settings': order => Object.assign(settings, order),
  'POST /_test/end': async ({ sub }) => {
    const ended = [...grants.get(sub) ?? []];
    for (const id of ended) await (await provider.Grant.find(id))?.destroy();
    grants.delete(sub);
    return { ended: ended.length };
  },
});

const server = http.createServer();
server.listen(Number(options.port), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = authorizationServer(issuer);
  const answer = provider.callback(), hand = hands(provider);
  server.on('request', (request, response) => {
    const { pathname } = new URL(request.url, issuer);
    const done = error => { console.error(error); response.destroy(); };
    if (pathname.startsWith('/interaction/')) return interaction(provider, request, response).catch(done);
    const found = hand[`${request.method} ${pathname}`];
    if (!found) return answer(request, response);
    return read(request).then(body => found(body && JSON.parse(body))).then(told => response.setHeader('content-type', 'application/json').end(JSON.stringify(told))).catch(done);
  });
  console.log(JSON.stringify({ url: issuer }));
});
