// What oidc-provider answers, in Entra's words: its discovery document, its token answers, its errors, and what its redirects
// carry. Entra has no RFC 9207 `iss` and announces no PKCE; both are taken away here.
import { randomBytes } from 'node:crypto';
import { Aadsts, fromProvider } from './aadsts.js';
import { OFFLINE } from './scopes.js';
import { graphify } from './graph_tokens.js';
import { errorPage } from './pages.js';

export const ALIASES = ['common', 'organizations', 'consumers'];
const KEPT_OIDC = ['openid', 'profile', 'email'];
const LARGEST_GIVEN = 1000;
const DISCOVERY_CACHE = 'max-age=86400, private';

const words = text => (text ?? '').split(' ').filter(Boolean);

/** The error that a request of the engine ended with. */
const errorOf = (ctx, body) => (ctx.simErr instanceof Aadsts ? ctx.simErr : fromProvider(body, ctx.simErr?.error_detail ?? ''));

export function renderError(ctx, out, error) {
  const known = error instanceof Aadsts ? error : fromProvider(out, error.error_detail ?? '');
  ctx.simAadsts = known.code;
  ctx.status = known.status === 401 ? 400 : known.status;
  ctx.type = 'html';
  ctx.body = errorPage(known);
}

/** Rewrites the engine's finished answer. */
export function present(entra, tid, ctx) {
  ctx.set('x-ms-request-id', randomBytes(8).toString('hex'));
  ctx.set('x-ms-ests-server', 'stand-in 0.1 - LOCAL');
  if (ctx.path === '/.well-known/openid-configuration') {
    ctx.body = discovery(entra, tid, ctx.body);
    ctx.set('cache-control', DISCOVERY_CACHE);
  } else if (ctx.path.endsWith('/keys')) {
    ctx.body = entra.publicJwks(tid);
    ctx.type = 'application/json; charset=utf-8';
  } else if (ctx.path === '/oauth2/v2.0/token') {
    if (ctx.status >= 400 && ctx.body?.error) tokenError(entra, ctx);
    else if (ctx.body?.access_token && ctx.body.token_type === 'Bearer') tokenAnswer(entra, ctx);
  } else if (ctx.status === 303 && ctx.response.get('location')) {
    redirectBack(entra, ctx);
  }
}

function tokenError(entra, ctx) {
  const error = errorOf(ctx, ctx.body);
  ctx.status = error.status;
  ctx.simAadsts = error.code;
  ctx.body = error.body(entra.base);
}

function tokenAnswer(entra, ctx) {
  const { scope, token_type, expires_in, access_token, refresh_token, id_token } = ctx.body;
  const { AuthorizationCode, RefreshToken } = ctx.oidc?.entities ?? {};
  const asked = words(ctx.oidc?.params?.scope ?? (AuthorizationCode ?? RefreshToken)?.scope).filter(name => KEPT_OIDC.includes(name));
  const appOnly = ctx.oidc?.params?.grant_type === 'client_credentials';
  ctx.body = {
    token_type,
    ...(appOnly ? {} : { scope: [...new Set([...words(scope), ...asked])].filter(name => name !== OFFLINE).join(' ') }),
    expires_in: expires_in - 1,
    ext_expires_in: expires_in - 1,
    access_token: graphify(entra, access_token),
    ...(refresh_token ? { refresh_token } : {}),
    ...(id_token ? { id_token } : {}),
  };
  entra.given.push(...[ctx.body.access_token, refresh_token, id_token].filter(Boolean));
  entra.given.splice(0, entra.given.length - LARGEST_GIVEN);
}

function redirectBack(entra, ctx) {
  const to = new URL(ctx.response.get('location'), entra.base);
  const failed = to.searchParams.has('error');
  if (!to.searchParams.has('iss') || !(failed || to.searchParams.has('code'))) return;
  to.searchParams.delete('iss');
  if (failed) {
    const error = errorOf(ctx, { error: to.searchParams.get('error'), error_description: to.searchParams.get('error_description') });
    addError(entra, to, error);
    ctx.simAadsts = error.code;
  } else {
    to.searchParams.set('session_state', randomBytes(16).toString('hex'));
  }
  ctx.status = 302;
  ctx.set('location', to.href);
}

export function addError(entra, to, error) {
  to.searchParams.set('error', error.oauth);
  to.searchParams.set('error_description', error.describe());
  to.searchParams.set('error_uri', `${entra.base}/error?code=${error.code}`);
}

/** The v2.0 discovery document of a tenant or of an alias; `own` is the engine's. */
export function discovery(entra, segment, own) {
  const alias = ALIASES.includes(segment);
  const here = `${entra.base}/${segment}`;
  return {
    token_endpoint: `${here}/oauth2/v2.0/token`,
    token_endpoint_auth_methods_supported: ['client_secret_post', 'private_key_jwt', 'client_secret_basic', 'self_signed_tls_client_auth'],
    jwks_uri: `${here}/discovery/v2.0/keys`,
    response_modes_supported: own?.response_modes_supported ?? ['query', 'fragment', 'form_post'],
    subject_types_supported: ['pairwise'],
    id_token_signing_alg_values_supported: ['RS256'],
    response_types_supported: ['code', 'id_token', 'code id_token', 'id_token token'],
    scopes_supported: ['openid', 'profile', 'email', 'offline_access'],
    issuer: alias ? `${entra.base}/{tenantid}/v2.0` : entra.issuerV2(segment),
    request_uri_parameter_supported: false,
    userinfo_endpoint: `${entra.base}/graph/oidc/userinfo`,
    authorization_endpoint: `${here}/oauth2/v2.0/authorize`,
    device_authorization_endpoint: `${here}/oauth2/v2.0/devicecode`,
    http_logout_supported: true,
    frontchannel_logout_supported: true,
    end_session_endpoint: `${here}/oauth2/v2.0/logout`,
    claims_supported: ['sub', 'iss', 'cloud_instance_name', 'cloud_instance_host_name', 'cloud_graph_host_name', 'msgraph_host', 'aud', 'exp', 'iat', 'auth_time', 'acr', 'nonce', 'preferred_username', 'name', 'tid', 'ver', 'at_hash', 'c_hash', 'email'],
    kerberos_endpoint: `${here}/kerberos`,
    tenant_region_scope: alias ? null : 'NA',
    cloud_instance_name: 'microsoftonline.com',
    cloud_graph_host_name: 'graph.windows.net',
    msgraph_host: 'graph.microsoft.com',
    rbac_url: 'https://pas.windows.net',
  };
}

/** The v1.0 document: the same endpoints under the older issuer and keys. */
export const discoveryV1 = (entra, tid) => ({ ...discovery(entra, tid), issuer: entra.issuerV1(tid), jwks_uri: `${entra.base}/${tid}/discovery/keys` });

export { DISCOVERY_CACHE };
