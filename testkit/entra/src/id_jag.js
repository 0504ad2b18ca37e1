// ID-JAG issuance (MCP "enterprise-managed authorization"): an enterprise IdP exchanging an ID token for a signed grant
// for another authorization server. Entra documents no such feature; here it plays some identity provider that has it.
import { SignJWT, createLocalJWKSet, importJWK, jwtVerify } from 'jose';
import { randomUUID } from 'node:crypto';
import { Aadsts } from './aadsts.js';

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

export function registerIdJag(entra, tid, engine) {
  engine.registerGrantType(TOKEN_EXCHANGE, async (ctx) => {
    const { params, client } = ctx.oidc;
    const fail = (detail) => { throw new Aadsts(70000, { detail }); };
    if (params.requested_token_type !== 'urn:ietf:params:oauth:token-type:id-jag') fail('requested_token_type is not supported');
    if (params.subject_token_type !== 'urn:ietf:params:oauth:token-type:id_token') fail('subject_token_type is not supported');
    if (!params.audience || !params.resource) fail('audience and resource are required');
    let idt;
    try {
      ({ payload: idt } = await jwtVerify(params.subject_token, createLocalJWKSet(entra.publicJwks(tid)), {
        issuer: entra.issuerV2(tid), audience: client.clientId, algorithms: ['RS256'],
      }));
    } catch (e) { fail(`subject_token: ${e.code}`); }
    const user = entra.userByOid(tid, idt.oid);
    if (!user || user.disabled) throw new Aadsts(50057);
    const rule = entra.state.idJagPolicy?.find((p) => p.audience === params.audience);
    if (entra.state.idJagPolicy && !rule) throw new Aadsts(53003, { error: 'access_denied', detail: 'Policy does not allow this client at this authorization server.' });
    const key = entra.activeKey(tid);
    const now = Math.floor(Date.now() / 1000);
    const scope = params.scope?.split(' ').filter((s) => !rule?.scopes || rule.scopes.includes(s)).join(' ');
    const jag = await new SignJWT({
      iss: entra.issuerV2(tid), sub: idt.sub, aud: params.audience, resource: params.resource,
      client_id: rule?.clientId ?? client.clientId, jti: randomUUID(), iat: now, exp: now + 300, auth_time: idt.auth_time,
      ...(scope ? { scope } : {}), email: user.mail, oid: user.oid, tid,
    }).setProtectedHeader({ alg: 'RS256', kid: key.kid, typ: 'oauth-id-jag+jwt' }).sign(await importJWK(key, 'RS256'));
    ctx.body = {
      issued_token_type: 'urn:ietf:params:oauth:token-type:id-jag', access_token: jag, token_type: 'N_A', expires_in: 300, ...(scope ? { scope } : {}),
    };
  }, ['requested_token_type', 'audience', 'resource', 'scope', 'subject_token', 'subject_token_type']);
}
