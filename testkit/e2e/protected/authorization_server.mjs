#!/usr/bin/env node
// The authorization server of the protected servers: oidc-provider, as ../oidc.mjs sets it, with access tokens that are JWTs and clients
// that an administrator registered: one for each way to prove who one is. A person types a name or an address, and is signed in by
// what stands before the @. Prints one line of JSON once it listens.
//
//   authorization_server.mjs --gateway ORIGIN --resource URL… [--port N]     NODE_EXTRA_CA_CERTS lets it trust the host of documents
//
// Beside what oidc-provider does, it takes what the gateway signs: its word in a token exchange (exchange.mjs). The test's hands, without
// authentication, under /_test: GET counters, GET asked {client: {grant type: the form that was last answered with a token}}, GET refused
// {why: the last refusal}, POST settings {accessToken, refreshToken: seconds}, POST end {sub}: whatever that person agreed to.
import { generateKeyPairSync } from 'node:crypto';
import { parseArgs } from 'node:util';
import { ALLOW_OR_DENY, authority, interaction, listen, page, read } from '../oidc.mjs';
import { takeWordsOf } from './exchange.mjs';
import { CLIENTS, READ, WRITE, resourceServer } from './known.mjs';

const { values: options } = parseArgs({ options: { port: { type: 'string', default: '0' }, gateway: { type: 'string' }, resource: { type: 'string', multiple: true } } });
if (!options.gateway || !options.resource) { console.error('usage: authorization_server.mjs --gateway ORIGIN --resource URL… [--port N]'); process.exit(2); }

const settings = { accessToken: 300, refreshToken: 86400 };
/** How a client proved who it is, by what its request holds. */
const wayShown = ctx => (ctx.oidc.body.client_assertion ? 'private_key_jwt' : ctx.headers.authorization ? 'basic' : ctx.oidc.body.client_secret ? 'post' : 'none');
const counters = { tokens: {}, refused: {}, reuse: 0, registrations: 0, documents: 0, revocations: 0, signIns: 0, shown: {} };
const count = (of, name) => { of[name] = (of[name] ?? 0) + 1; };
const asked = {}, last = { why: undefined };
const grants = new Map(); // account → what it agreed to

function authorizationServer(issuer) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const resources = new Set(options.resource);
  const provider = authority(issuer, {
    resources,
    resourceServer,
    fetched: url => { if (!url.endsWith('/oauth/keys')) counters.documents++; },
    clients: CLIENTS(options.gateway, issuer),
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'one' }] },
    scopes: ['offline_access', READ, WRITE],
    ttl: {
      AccessToken: () => settings.accessToken, ClientCredentials: () => settings.accessToken, RefreshToken: () => settings.refreshToken,
      AuthorizationCode: 60, Grant: 86400, IdToken: 900, Interaction: 600, Session: 86400,
    },
    features: { userinfo: { enabled: false }, clientCredentials: { enabled: true } },
  });
  takeWordsOf(options.gateway, provider, resources);
  provider.on('grant.success', ctx => {
    const { client, params: { grant_type: type }, body } = ctx.oidc;
    count(counters.tokens, type);
    count(counters.shown, wayShown(ctx));
    (asked[client.clientId] ??= {})[type] = body;
  });
  provider.on('grant.error', (ctx, error) => {
    count(counters.refused, error.error);
    if (error.error_detail === 'refresh token already used') counters.reuse++;
    last.why = error.error_detail ?? error.error_description;
    console.error(`refused: ${error.error} ${last.why}`);
  });
  provider.on('registration_create.success', () => { counters.registrations++; });
  provider.on('grant.saved', grant => grants.set(grant.accountId, (grants.get(grant.accountId) ?? new Set()).add(grant.jti)));
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.oidc?.route === 'revocation' && ctx.status === 200) counters.revocations++;
  });
  return provider;
}

const pages = {
  login: page('Notes', '<label>Who are you? <input name="login"></label><button name="decision" value="continue">Continue</button>'),
  consent: page('Notes', ALLOW_OR_DENY),
};
const accountOf = form => {
  counters.signIns++;
  return form.get('login').split('@')[0].toLowerCase();
};

const hands = provider => ({
  'GET /_test/counters': () => counters,
  'GET /_test/asked': () => asked,
  'GET /_test/refused': () => last,
  'POST /_test/settings': order => Object.assign(settings, order),
  'POST /_test/end': async ({ sub }) => {
    const ended = [...grants.get(sub) ?? []];
    for (const id of ended) await (await provider.Grant.find(id))?.destroy();
    grants.delete(sub);
    return { ended: ended.length };
  },
});

listen(options.port, issuer => {
  const provider = authorizationServer(issuer);
  const answer = provider.callback(), hand = hands(provider);
  return async (request, response) => {
    const { pathname } = new URL(request.url, issuer);
    if (pathname.startsWith('/interaction/')) return interaction(provider, { pages, accountOf }, request, response);
    const found = hand[`${request.method} ${pathname}`];
    if (!found) return answer(request, response);
    const body = await read(request), told = await found(body && JSON.parse(body));
    return response.setHeader('content-type', 'application/json').end(JSON.stringify(told));
  };
});
