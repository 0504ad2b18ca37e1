// One oidc-provider per tenant, configured to look like Entra's v2.0 endpoints. Codes, PKCE, sessions, interactions, client
// authentication, lifetimes and signing are its own; what is configured here is what Entra does otherwise.
import Provider, { errors, interactionPolicy } from 'oidc-provider';
import { current } from './current.js';
import { accessTokenClaims, idTokenClaims, pairwise } from './claims.js';
import { OFFLINE, consented, findApp, resourceApp, resourceServer, resourcesOf } from './scopes.js';
import { GRAPH_APPID } from './directory.js';
import { nonceToSign } from './graph_tokens.js';
import { present, renderError } from './wording.js';
import { registerObo } from './obo.js';
import { registerIdJag } from './id_jag.js';
import { Storage } from './storage.js';

const claimsRequest = ctx => { try { return JSON.parse(ctx.oidc.params.sim_claims); } catch { return undefined; } };

export function createEngine(entra, tid, jwks) {
  const { state } = entra;
  const short = tid.slice(0, 4);
  const engine = new Provider(entra.issuerV2(tid), {
    adapter: model => new Storage(entra, tid, model),
    jwks,
    routes: {
      authorization: '/oauth2/v2.0/authorize',
      token: '/oauth2/v2.0/token',
      jwks: '/discovery/v2.0/keys',
      end_session: '/oauth2/v2.0/logout',
      device_authorization: '/oauth2/v2.0/devicecode',
    },
    clientAuthMethods: ['client_secret_post', 'client_secret_basic', 'private_key_jwt', 'none'],
    responseTypes: ['code', 'id_token', 'code id_token'],
    scopes: ['openid', 'profile', 'email', OFFLINE],
    subjectTypes: ['pairwise'],
    pairwiseIdentifier: (ctx, accountId, client) => pairwise(tid, accountId, client.clientId),
    claims: {
      openid: ['sub', 'oid', 'tid', 'ver', 'uti', 'rh', 'aio', 'nbf', 'idp', 'roles', 'groups'],
      profile: ['name', 'preferred_username'],
      email: ['email'],
      sid: null,
    },
    conformIdTokenClaims: false,
    extraParams: ['domain_hint', 'sim_claims', 'sim_ticket'],
    sectorIdentifierUriValidate: () => false,
    pkce: { required: () => false }, // Entra recommends PKCE, and enforces it only for redirect URIs of single-page apps
    interactions: { policy: promptPolicy(entra, tid), url: (ctx, interaction) => `/${tid}/login/${interaction.uid}` },
    cookies: { keys: [entra.cookieKey], names: { session: `ESTSAUTH-${short}`, interaction: `sim_int-${short}`, resume: `sim_res-${short}` } },
    ttl: {
      AccessToken: () => state.config.accessTokenTTL,
      ClientCredentials: () => state.config.accessTokenTTL,
      AuthorizationCode: 600,
      IdToken: () => state.config.accessTokenTTL,
      RefreshToken: () => state.config.refreshTokenTTL,
      Interaction: 900,
      Session: 24 * 3600,
      Grant: () => state.config.refreshTokenTTL + 3600,
    },
    rotateRefreshToken: true,
    issueRefreshToken: (ctx, client, source) => source.scopes.has(OFFLINE),
    expiresWithSession: () => false,
    features: {
      devInteractions: { enabled: false },
      userinfo: { enabled: false }, // lives on Graph
      clientCredentials: { enabled: true },
      pushedAuthorizationRequests: { enabled: false },
      dPoP: { enabled: false },
      rpInitiatedLogout: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        // Entra has no `resource`: it is in the scopes. Of several, the first requested wins at redemption.
        defaultResource: (ctx, client, oneOf) => (oneOf ? [oneOf].flat()[0] : ctx.oidc.params.resource ?? resourcesOf(ctx.oidc.params.scope)),
        getResourceServerInfo: (ctx, identifier) => {
          const info = resourceServer(entra, tid, identifier);
          if (!info) throw new errors.InvalidTarget();
          return info;
        },
      },
    },
    loadExistingGrant: ctx => grantFromConsent(entra, tid, ctx),
    findAccount: (ctx, oid) => {
      const user = entra.userByOid(tid, oid);
      return user && { accountId: oid, claims: () => idTokenClaims(entra, tid, user, findApp(state, tid, ctx?.oidc?.client?.clientId)) };
    },
    formats: { customizers: { jwt: (ctx, token, jwt) => dressAccessToken(entra, tid, token, jwt) } },
    renderError,
  });

  engine.proxy = false;
  registerObo(entra, tid, engine);
  registerIdJag(entra, tid, engine);

  engine.on('grant.error', (ctx, error) => { ctx.simErr = error; });
  engine.on('authorization.error', (ctx, error) => { ctx.simErr = error; });
  engine.on('server_error', (ctx, error) => { ctx.simErr = error; console.error('server_error', error); });
  engine.on('authorization.success', ctx => rememberClaims(entra, ctx));
  engine.use(async (ctx, next) => {
    await next();
    present(entra, tid, ctx);
  });
  return engine;
}

// A sign-in is asked for again when a policy demands more than the session shows.
function promptPolicy(entra, tid) {
  const policy = interactionPolicy.base();
  policy.get('consent').checks.remove('native_client_prompt');
  policy.get('login').checks.add(new interactionPolicy.Check('sim_mfa', 'MFA is required', 'interaction_required', ctx => {
    if (ctx.oidc.result?.login) return false;
    const user = entra.userByOid(tid, ctx.oidc.session.accountId);
    const policies = claimsRequest(ctx)?.access_token?.polids?.values ?? [];
    return Boolean(user && (user.mfaSince > user.lastInteractive || policies.some(id => !user.satisfiedPolicies.includes(id))));
  }));
  policy.add(new interactionPolicy.Prompt({ name: 'select_account', requestable: true }), 0);
  return policy;
}

// Consent of the tenant or an earlier one means no page; what is missing makes the engine ask.
async function grantFromConsent(entra, tid, ctx) {
  const { client, session, result, provider, requestParamOIDCScopes, resourceServers } = ctx.oidc;
  const existing = result?.consent?.grantId ?? session.grantIdFor(client.clientId);
  const grant = (existing && await provider.Grant.find(existing)) || new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  if (grant.accountId !== session.accountId) return undefined;
  const oidcScopes = [...requestParamOIDCScopes];
  if (oidcScopes.length) grant.addOIDCScope(oidcScopes.join(' '));
  for (const [identifier, server] of Object.entries(resourceServers)) {
    const allowed = consented(entra.state, tid, client.clientId, resourceApp(entra.state, tid, identifier).appId, session.accountId);
    const names = [...allowed, ...(allowed.size ? ['.default'] : [])].map(name => `${identifier}/${name}`).filter(scope => server.scopes.has(scope));
    if (names.length) grant.addResourceScope(identifier, names.join(' '));
  }
  await grant.save();
  return grant;
}

// Replaces the engine's claims by Entra's.
function dressAccessToken(entra, tid, token, jwt) {
  const identifier = token.resourceServer.identifier();
  const app = resourceApp(entra.state, tid, identifier);
  const user = token.accountId ? entra.userByOid(tid, token.accountId) : undefined;
  const extras = entra.grantExtras.get(token.grantId) ?? {};
  const request = current.getStore();
  const own = `${identifier}/`;
  jwt.payload = accessTokenClaims(entra, {
    tid, user, app,
    aud: request?.audAsRequested?.[identifier] ?? identifier,
    client: findApp(entra.state, tid, token.clientId),
    scp: (token.scope ?? '').split(' ').filter(scope => scope.startsWith(own)).map(scope => scope.slice(own.length)).filter(name => name !== '.default'),
    exp: jwt.payload.exp,
    auth: request?.auth ?? '1',
    mfa: user && user.lastInteractive >= user.mfaSince && user.mfaSince > 0,
    cp1: extras.cp1 || request?.claims?.access_token?.xms_cc?.values?.includes('cp1'),
    acrs: extras.acrs,
  });
  jwt.header = { typ: 'JWT', ...(app.accessTokenVersion === 1 ? { x5t: entra.activeKid(tid) } : {}), ...(app.appId === GRAPH_APPID ? { nonce: nonceToSign(entra) } : {}) };
}

function rememberClaims(entra, ctx) {
  const asked = claimsRequest(ctx);
  const grantId = ctx.oidc.session?.grantIdFor(ctx.oidc.client.clientId);
  if (!asked || !grantId) return;
  const { xms_cc, acrs } = asked.access_token ?? {};
  entra.grantExtras.set(grantId, {
    cp1: xms_cc?.values?.map(value => value.toLowerCase()).includes('cp1') || undefined,
    acrs: acrs ? [acrs.value ?? acrs.values].flat() : undefined,
  });
}
