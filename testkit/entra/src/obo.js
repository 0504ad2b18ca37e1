// The on-behalf-of grant, an imitation: the rules are ours, building and signing tokens stays with oidc-provider's models.
import { errors as joseErrors, jwtVerify, createLocalJWKSet } from 'jose';
import { Aadsts } from './aadsts.js';
import { OFFLINE, consented, findApp, fullScopes, parseScope, resourceServer } from './scopes.js';

export const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';

export function registerObo(entra, tid, engine) {
  engine.registerGrantType(JWT_BEARER, async (ctx) => {
    const { params, client } = ctx.oidc;
    const { state } = entra;
    const app = findApp(state, tid, client.clientId);
    if (params.requested_token_use !== 'on_behalf_of') throw new Aadsts(900144, { detail: "The request body must contain the following parameter: 'requested_token_use'." });
    if (!params.assertion) throw new Aadsts(900144, { detail: "The request body must contain the following parameter: 'assertion'." });
    if (app.public) throw new Aadsts(7000218);

    let claims;
    try {
      ({ payload: claims } = await jwtVerify(params.assertion, createLocalJWKSet(entra.publicJwks(tid)), { algorithms: ['RS256'] }));
    } catch (err) {
      if (err instanceof joseErrors.JWTExpired) throw new Aadsts(500133);
      throw new Aadsts(50013, { detail: `Assertion failed signature validation. [Reason - ${err.code}]` });
    }
    if (![entra.issuerV1(tid), entra.issuerV2(tid)].includes(claims.iss)) throw new Aadsts(50013, { detail: 'Assertion issuer is not valid.' });
    if (claims.aud !== app.appId && !app.identifierUris.includes(claims.aud)) throw new Aadsts(500131);
    if (claims.idtyp === 'app' || !claims.scp) throw new Aadsts(7000114);
    const user = entra.userByOid(tid, claims.oid);
    if (!user || user.disabled) throw new Aadsts(50057);
    if (user.revokedSince / 1000 > claims.iat + 300) throw new Aadsts(50173);

    const parsed = parseScope(state, tid, app, params.scope);
    if (parsed.resources.size !== 1) throw new Aadsts(28000);
    const [[identifier, entry]] = parsed.resources;
    const allowed = consented(state, tid, app.appId, entry.app.appId, user.oid);
    const missing = entry.dotDefault ? (allowed.size === 0) : [...entry.names].some((n) => !allowed.has(n));
    if (missing) throw new Aadsts(65001, { detail: `The user or administrator has not consented to use the application with ID '${app.appId}' named '${app.name}'. Send an interactive authorization request for this user and resource.` });
    if (entry.app.caPolicy && !user.satisfiedPolicies.includes(entry.app.caPolicy)) {
      throw new Aadsts(50079, { claims: { access_token: { polids: { essential: true, values: [entry.app.caPolicy] } } } });
    }
    if (user.mfaSince > user.lastInteractive) throw new Aadsts(50076, { claims: { access_token: { capolids: { essential: true, values: ['stand-in-mfa'] } } } });

    const scopes = fullScopes(state, tid, app.appId, identifier, entry, user.oid);
    const grant = new engine.Grant({ clientId: app.appId, accountId: user.oid });
    if (parsed.oidc.length) grant.addOIDCScope(parsed.oidc.join(' '));
    grant.addResourceScope(identifier, scopes.join(' '));
    const grantId = await grant.save();

    const at = new engine.AccessToken({ accountId: user.oid, client, grantId, gty: 'obo' });
    at.resourceServer = new engine.ResourceServer(identifier, resourceServer(entra, tid, identifier));
    at.scope = scopes.join(' ');
    ctx.oidc.entity('AccessToken', at);
    const access_token = await at.save();

    let refresh_token;
    if (parsed.oidc.includes(OFFLINE)) {
      const rt = new engine.RefreshToken({
        accountId: user.oid, client, grantId, gty: 'obo', resource: identifier, rotations: 0,
        scope: [...parsed.oidc, ...scopes].join(' '), authTime: claims.iat,
      });
      refresh_token = await rt.save();
    }
    ctx.body = { token_type: 'Bearer', scope: at.scope, expires_in: at.expiration, access_token, refresh_token };
  }, ['assertion', 'scope', 'requested_token_use', 'resource']);
}
