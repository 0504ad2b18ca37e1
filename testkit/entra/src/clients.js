// How an application of the directory looks to oidc-provider, and which of its credentials a request presents: several secrets,
// expired ones, certificates, federated credentials. Checking an assertion's signature is the engine's, except for federation.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, importJWK, jwtVerify, SignJWT } from 'jose';
import { CONTOSO, GRAPH_APPID, MANAGED_IDENTITY, TOKEN_EXCHANGE_APPID } from './directory.js';
import { Aadsts } from './aadsts.js';
import { findApp } from './scopes.js';
import { JWT_BEARER } from './obo.js';
import { TOKEN_EXCHANGE } from './id_jag.js';

const same = (a, b) => timingSafeEqual(...[a, b].map(text => createHash('sha256').update(text).digest()));

/** The client's metadata for the credential that this very request presents. */
export function clientMetadata(entra, tid, id, request) {
  const app = findApp(entra.state, tid, id);
  if (!app || app.appId === GRAPH_APPID) return undefined;
  const method = app.public ? 'none' : request?.authMethod === 'assertion' ? 'private_key_jwt' : 'client_secret_post';
  const signsIn = Boolean(app.redirectUris?.length);
  return {
    client_id: app.appId,
    client_name: app.name,
    application_type: app.public ? 'native' : 'web',
    subject_type: 'pairwise',
    sector_identifier_uri: `https://sector.invalid/${app.appId}`,
    redirect_uris: app.redirectUris ?? [],
    grant_types: [...(signsIn ? ['authorization_code', 'refresh_token'] : []), ...(app.public ? [] : ['client_credentials', JWT_BEARER, TOKEN_EXCHANGE])],
    response_types: signsIn ? ['code'] : [],
    id_token_signed_response_alg: 'RS256',
    token_endpoint_auth_method: method,
    ...(method === 'private_key_jwt' ? { jwks: { keys: (app.certs ?? []).map(certificate => certificate.jwk) } } : {}),
    ...(method === 'client_secret_post' ? { client_secret: request?.matchedSecret ?? app.secrets?.[0]?.value ?? randomBytes(32).toString('hex') } : {}),
  };
}

const basic = headers => headers.authorization?.match(/^Basic (.+)$/i);
const basicParts = found => Buffer.from(found[1], 'base64').toString().split(':');

/** The client that a token request names, in its body or its header. */
export function clientIdOf(body, headers) {
  const found = basic(headers);
  return body.client_id ?? (found && decodeURIComponent(basicParts(found)[0]));
}

/** Which credential was presented; refuses wrong and expired ones in Entra's words. */
export async function credentialOf(entra, app, body, headers) {
  const found = basic(headers);
  const secret = found ? decodeURIComponent(basicParts(found).slice(1).join(':').replace(/\+/g, '%20')) : body.client_secret;
  if (body.client_assertion) {
    if (app.public) throw new Aadsts(700025);
    let claims, header = {};
    try { claims = decodeJwt(body.client_assertion); } catch { /* the engine says so */ }
    if (claims && claims.iss !== app.appId) return federated(entra, app, body, claims);
    try { header = decodeProtectedHeader(body.client_assertion); } catch { /* the engine says so */ }
    const given = [header.x5t, header['x5t#S256'], header.kid].map(value => value?.replace(/=+$/, '')); // msal pads
    if (!(app.certs ?? []).some(certificate => [certificate.x5t, certificate['x5t#S256'], certificate.jwk.kid].some(value => value && given.includes(value)))) throw new Aadsts(700027);
    return { authMethod: 'assertion', auth: '2' };
  }
  if (secret !== undefined) {
    if (app.public) throw new Aadsts(700025);
    const hit = (app.secrets ?? []).find(own => same(own.value, secret));
    if (hit?.expired) throw new Aadsts(7000222);
    if (!hit) throw new Aadsts(7000215, { detail: `Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '${app.appId}'.` });
    return { authMethod: 'secret', auth: '1', matchedSecret: hit.value };
  }
  return { authMethod: 'none', auth: '0' };
}

// Workload identity federation: the assertion is somebody else's token, which is ours to check; the engine then gets a secret.
async function federated(entra, app, body, claims) {
  const rule = (app.fic ?? []).find(one => claims.sub === one.subject && (one.issuer ?? entra.issuerV2(one.issuerTid)) === claims.iss && [one.audience, TOKEN_EXCHANGE_APPID].includes(claims.aud));
  if (!rule) throw new Aadsts(700213);
  try {
    await jwtVerify(body.client_assertion, createLocalJWKSet(rule.jwks ?? entra.publicJwks(rule.issuerTid)), { algorithms: ['RS256', 'ES256'] });
  } catch {
    throw new Aadsts(700027, { detail: 'Client assertion failed signature validation.' });
  }
  delete body.client_assertion;
  delete body.client_assertion_type;
  body.client_secret = app.secrets[0].value;
  return { authMethod: 'secret', auth: '2', matchedSecret: app.secrets[0].value };
}

/** What the metadata service of a virtual machine answers to its managed identity. */
export async function managedIdentityToken(entra, resource) {
  const key = entra.activeKey(CONTOSO), oid = MANAGED_IDENTITY;
  const now = Math.floor(Date.now() / 1000);
  const aud = resource.replace(/\/$/, '') === 'api://AzureADTokenExchange' ? TOKEN_EXCHANGE_APPID : resource;
  const token = await new SignJWT({ aud, iss: entra.issuerV2(CONTOSO), iat: now - 300, nbf: now - 300, exp: now + 86400, oid, sub: oid, tid: CONTOSO, ver: '2.0', idtyp: 'app' })
    .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid: key.kid }).sign(await importJWK(key, 'RS256'));
  return { access_token: token, expires_in: '86400', expires_on: String(now + 86400), not_before: String(now - 300), resource, token_type: 'Bearer', client_id: oid };
}
