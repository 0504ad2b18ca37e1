// /_sim/*: the test's hands. No authentication, nothing that Microsoft offers: for loopback only.
import { createHash, createHmac, createPrivateKey, createPublicKey } from 'node:crypto';
import { SignJWT, UnsecuredJWT, importJWK } from 'jose';
import { wording } from './aadsts.js';
import { accessTokenClaims } from './claims.js';
import { moveOn } from './clock.js';
import { addFault } from './faults.js';
import { readBody, send } from './http.js';
import { newKey } from './keys.js';
import { findApp } from './scopes.js';

const done = { ok: true };
const shownUser = user => ({ ...user, groups: user.groups.length });
const shownApp = app => ({ ...app, secrets: app.secrets?.length });

const ROUTES = {
  'POST /reset': entra => { entra.reset(); return done; },
  'GET /state': entra => ({
    tenants: entra.state.tenants,
    config: entra.state.config,
    autologin: entra.state.autologin,
    apps: entra.state.apps.map(shownApp),
    users: entra.state.users.map(shownUser),
    keys: Object.fromEntries(Object.entries(entra.keys).map(([tid, list]) => [tid, list.map(key => ({ kid: key.jwk.kid, signing: key.signing }))])),
  }),
  'GET /log': (entra, body, url) => entra.log.filter(line => line.path.includes(url.searchParams.get('path') ?? '')),
  'GET /given': entra => entra.given,
  'DELETE /log': entra => { entra.log.length = 0; return done; },
  'POST /config': (entra, body) => {
    Object.assign(entra.state.config, body);
    wording.uiRequiredError = entra.state.config.uiRequiredError;
    return entra.state.config;
  },
  'POST /clock': (entra, body) => ({ now: moveOn(body.seconds) }),
  'POST /autologin': (entra, body) => { // signs this account in without a form: for demonstrations and load
    const user = entra.userByLogin(body.user);
    if (body.user && !user) return undefined;
    entra.state.autologin = user ? { [user.tid]: user.login ?? user.upn } : {};
    return entra.state.autologin;
  },
  'POST /faults': (entra, body) => addFault(entra, body),
  'GET /faults': entra => entra.faults,
  'DELETE /faults': entra => { entra.faults = []; return done; },
  'POST /keys/rotate': (entra, body) => entra.rotate(tenant(entra, body.tenant), body.mode),
  'POST /consent': (entra, body) => { entra.state.consent.push({ user: null, ...body, tid: tenant(entra, body.tenant) }); return done; },
  'POST /idjag-policy': (entra, body) => { entra.state.idJagPolicy = body.rules; return done; },
  'POST /refresh-tokens/expire': expireRefreshTokens,
  'POST /token': mint,
};

const USER_VERBS = {
  revoke: user => { user.revokedSince = Date.now(); },
  disable: user => { user.disabled = true; },
  enable: user => { user.disabled = false; },
  'require-mfa': user => { user.mfaSince = Date.now(); },
  'expire-password': user => { user.passwordExpired = true; },
};

const APP_VERBS = {
  'redirect-uris': (app, body) => { app.redirectUris = [...new Set([...(app.redirectUris ?? []), ...[body.uris ?? body.uri].flat()])]; },
  certs: (app, body) => { (app.certs ??= []).push(body); }, // { jwk, x5t, 'x5t#S256' }
  fic: (app, body) => { (app.fic ??= []).push(body); },
  certificate: app => { // a new one that is taken from now on, with its private key
    const key = newKey(app.name), bytes = Buffer.from(key.x5c[0], 'base64');
    (app.certs ??= []).push({ jwk: { kty: 'RSA', n: key.n, e: key.e }, 'x5t#S256': createHash('sha256').update(bytes).digest('base64url') });
    const text = key.x5c[0].match(/.{1,64}/g).join('\n');
    const own = createPrivateKey({ key: { ...key, alg: undefined }, format: 'jwk' }).export({ type: 'pkcs8', format: 'pem' });
    return { pem: `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n${own}` };
  },
};

export async function controls(entra, request, response, url) {
  const path = url.pathname.slice('/_sim'.length);
  const raw = await readBody(request);
  const body = raw ? JSON.parse(raw) : {};
  const answer = await answerOf(entra, request.method, path, body, url);
  return answer === undefined ? send(response, 404, { error: 'there is no such control, user or application', route: `${request.method} ${path}` }) : send(response, 200, answer);
}

async function answerOf(entra, method, path, body, url) {
  const route = ROUTES[`${method} ${path}`];
  if (route) return route(entra, body, url);
  const [, kind, name, verb] = path.match(/^\/(users|apps)\/([^/]+)(?:\/([a-z-]+))?$/) ?? [];
  if (!kind || !['POST', 'PATCH'].includes(method)) return undefined;
  const verbs = kind === 'users' ? USER_VERBS : APP_VERBS;
  const one = kind === 'users' ? entra.userByLogin(decodeURIComponent(name)) : entra.state.apps.find(app => app.appId === name);
  if (!one || (verb && !verbs[verb])) return undefined;
  const made = verb ? verbs[verb](one, body) : void Object.assign(one, body);
  if (made) return made;
  return kind === 'users' ? shownUser(one) : shownApp(one);
}

const tenant = (entra, name) => entra.tenantFor(name ?? '') ?? entra.tenantIds()[0];

/** As if unused for ninety days. */
function expireRefreshTokens(entra, body) {
  let marked = 0;
  for (const store of entra.stores.values()) {
    for (const [key, value] of store) {
      if (!key.startsWith('RefreshToken:') || (body.user && entra.userByOid(store.tid, value.accountId)?.upn !== body.user)) continue;
      value.simInactive = true;
      marked += 1;
    }
  }
  return { marked };
}

/** Any access token, good or bad: `claims` and `header` go over, `drop` takes away, `attack` signs it as it must not be. */
async function mint(entra, body) {
  const tid = tenant(entra, body.tenant);
  const user = body.user ? entra.userByLogin(body.user, tid) : undefined;
  const app = findApp(entra.state, tid, body.resource);
  const client = findApp(entra.state, tid, body.client ?? body.resource);
  if (!app || !client || (body.user && !user)) return undefined;
  const exp = Math.floor(Date.now() / 1000) + (body.ttl ?? 3900);
  const claims = { ...accessTokenClaims(entra, { tid, user, client, app, aud: app.identifierUris[0], scp: body.scp ?? [], exp, auth: '1' }), ...body.claims };
  for (const name of body.drop ?? []) delete claims[name];
  const key = body.attack === 'foreign-key' ? newKey() : entra.activeKey(tid);
  const header = { alg: 'RS256', typ: 'JWT', kid: entra.activeKid(tid), ...body.header };
  if (body.attack === 'alg-none') return { access_token: new UnsecuredJWT(claims).encode(), claims };
  if (body.attack === 'hs256-public-key') return { access_token: signedWithPublicKey(claims, header, key), claims };
  return { access_token: await new SignJWT(claims).setProtectedHeader(header).sign(await importJWK(key, 'RS256')), claims };
}

function signedWithPublicKey(claims, header, { n, e }) {
  const pem = createPublicKey({ key: { kty: 'RSA', n, e }, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
  const signed = [{ ...header, alg: 'HS256' }, claims].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${signed}.${createHmac('sha256', pem).update(signed).digest('base64url')}`;
}
