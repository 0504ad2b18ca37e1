// The token endpoint before the engine: which credential is presented, Entra's rules for scopes at each grant, and its rules for
// refresh tokens, which belong to a user and a client and not to one resource.
import { Aadsts } from './aadsts.js';
import { audiences, handToEngine } from './authorize.js';
import { clientIdOf, credentialOf } from './clients.js';
import { TOKEN_EXCHANGE } from './id_jag.js';
import { JWT_BEARER } from './obo.js';
import { checkResourceParam, consented, findApp, fullScopes, parseScope } from './scopes.js';

const missing = name => new Aadsts(900144, { detail: `The request body must contain the following parameter: '${name}'.` });

/** `named` is the tenant that the path names; none at an alias, where what is redeemed says whose it is. */
export async function token(entra, request, response, named, body) {
  const { state } = entra;
  const grant = body.grant_type;
  const clientId = clientIdOf(body, request.headers);
  if (!clientId) throw missing('client_id');
  if (!named && grant === 'client_credentials') throw new Aadsts(9001023);
  const tid = named ?? holderOf(entra, grant, body);
  const app = findApp(state, tid, clientId);
  if (!app) throw new Aadsts(700016, { detail: `Application with identifier '${clientId}' was not found in the directory '${state.tenants[tid].name}'.` });
  const credential = await credentialOf(entra, app, body, request.headers);
  if (credential.authMethod === 'none' && !app.public) throw new Aadsts(7000218);

  const resourceParam = body.resource;
  delete body.resource;
  let claims;
  if (body.claims) { try { claims = JSON.parse(body.claims); } catch { throw new Aadsts(9002313, { detail: 'claims is not JSON' }); } }
  // What an identity assertion is asked for are the other server's scopes, not ours.
  const parsed = parseScope(state, tid, app, grant === TOKEN_EXCHANGE ? '' : body.scope);
  if (resourceParam !== undefined && grant !== TOKEN_EXCHANGE) checkResourceParam(state, tid, resourceParam, parsed);
  const single = () => {
    if (parsed.resources.size > 1) throw new Aadsts(28000);
    return parsed.resources.entries().next().value;
  };

  switch (grant) {
    case undefined: throw missing('grant_type');
    case 'client_credentials': {
      const [identifier, entry] = single() ?? [];
      if (!entry?.dotDefault || parsed.oidc.length) throw new Aadsts(1002012);
      body.scope = `${identifier}/.default`;
      body.resource = identifier;
      break;
    }
    case 'authorization_code': {
      const resource = body.scope && single();
      if (resource) [body.resource] = resource;
      delete body.scope;
      break;
    }
    case 'refresh_token': await refreshRules(entra, tid, app, body, parsed, single); break;
    case TOKEN_EXCHANGE: body.resource = resourceParam; break;
    case JWT_BEARER: break;
    default: throw new Aadsts(70003);
  }
  request.body = body;
  return handToEngine(entra, request, response, tid, '/oauth2/v2.0/token', { ...credential, claims, audAsRequested: audiences(parsed) });
}

function holderOf(entra, grant, body) {
  const key = grant === 'authorization_code' ? `AuthorizationCode:${body.code}` : `RefreshToken:${body.refresh_token}`;
  return entra.tenantIds().find(tid => entra.store(tid).has(key)) ?? entra.tenantIds()[0];
}

/** Why a refresh token is dead or parked, and widening it to whatever consented resource is asked for. */
async function refreshRules(entra, tid, app, body, parsed, single) {
  const { state } = entra;
  const engine = entra.engines[tid];
  const raw = entra.store(tid).get(`RefreshToken:${body.refresh_token}`);
  const held = raw && await engine.RefreshToken.find(body.refresh_token, { ignoreExpiration: true });
  if (!held) return; // the engine says invalid_grant
  const user = entra.userByOid(tid, held.accountId);
  const date = ms => new Date(ms).toISOString();
  if (!user || user.disabled) throw new Aadsts(50057);
  if (user.passwordExpired) throw new Aadsts(50055);
  if (raw.simInactive) throw new Aadsts(700082, { detail: `The refresh token has expired due to inactivity. The token was issued on ${date(raw.simIssuedMs - 95 * 864e5)} and was inactive for 90.00:00:00.` });
  if (user.revokedSince >= raw.simIssuedMs) throw new Aadsts(50173, { detail: `The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password. The grant was issued on '${date(raw.simIssuedMs)}' and the TokensValidFrom date (before which tokens are not valid) for this user is '${date(user.revokedSince)}'.` });
  if (user.mfaSince > user.lastInteractive) throw new Aadsts(50076, { claims: { access_token: { capolids: { essential: true, values: ['stand-in-mfa'] } } } });
  const resource = body.scope && single();
  if (!resource) return;

  const [identifier, entry] = resource;
  const allowed = consented(state, tid, app.appId, entry.app.appId, user.oid);
  if ([...entry.names].some(name => !allowed.has(name)) || (entry.dotDefault && !allowed.size)) {
    throw new Aadsts(65001, { detail: `The user or administrator has not consented to use the application with ID '${app.appId}' named '${app.name}'. Send an interactive authorization request for this user and resource.` });
  }
  const scopes = fullScopes(state, tid, app.appId, identifier, entry, user.oid);
  const grant = await engine.Grant.find(held.grantId, { ignoreExpiration: true });
  grant?.addResourceScope(identifier, scopes.join(' '));
  if (parsed.oidc.length) grant?.addOIDCScope(parsed.oidc.join(' '));
  await grant?.save();
  held.scope = [...new Set([...(held.scope ?? '').split(' '), ...parsed.oidc, ...scopes])].filter(Boolean).join(' ');
  held.resource = [...new Set([held.resource ?? [], identifier].flat())];
  if (held.resource.length === 1) [held.resource] = held.resource;
  await held.save();
  body.resource = identifier;
  body.scope = [...parsed.oidc, ...scopes].join(' ');
}
