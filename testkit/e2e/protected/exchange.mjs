// What oidc-provider does not have: grants by something that another authority signed, here the gateway. Its word about who calls is
// exchanged (RFC 8693), and an identity assertion is an authorization grant (RFC 7523 section 2.1, identity assertion grant section 5).
// Who the client is, and what an access token is, stays with oidc-provider.
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { errors } from 'oidc-provider';
import { JWT_BEARER, READ, TOKEN_EXCHANGE, WRITE, resourceServer } from './known.mjs';

const ACCESS = 'urn:ietf:params:oauth:token-type:access_token', JWT = 'urn:ietf:params:oauth:token-type:jwt';

/** People are known here by what stands before the @ of the name that they have at the gateway. */
const nameOf = ({ preferred_username, sub }) => (preferred_username ?? sub).split('@')[0];

export function takeWordsOf(gateway, provider, resources) {
  const keys = createRemoteJWKSet(new URL(`${gateway}/oauth/keys`), { cooldownDuration: 0 });
  const shown = new Set();
  const verified = async (text, typ, audience) => {
    const rules = { issuer: gateway, audience, typ, algorithms: ['ES256'], requiredClaims: ['exp', 'iat', 'jti', 'sub'], maxTokenAge: 300 };
    try {
      return (await jwtVerify(text ?? '', keys, rules)).payload;
    } catch (error) {
      throw new errors.InvalidGrant(`what the gateway signed: ${error.message}`);
    }
  };

  async function give(ctx, sub, resource, scope, more) {
    const { client } = ctx.oidc;
    if (!resources.has(resource)) throw new errors.InvalidTarget();
    const scopes = (scope ?? READ).split(' ').filter(one => [READ, WRITE].includes(one)).join(' ');
    const grant = new provider.Grant({ accountId: sub, clientId: client.clientId });
    grant.addResourceScope(resource, scopes);
    const token = new provider.AccessToken({ accountId: sub, client, grantId: await grant.save(), gty: ctx.oidc.params.grant_type });
    token.resourceServer = new provider.ResourceServer(resource, resourceServer(resource));
    token.scope = scopes;
    ctx.oidc.entity('AccessToken', token);
    ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration, scope: scopes, ...more };
  }

  provider.registerGrantType(TOKEN_EXCHANGE, async ctx => {
    const { subject_token, subject_token_type, requested_token_type = ACCESS, resource, scope } = ctx.oidc.params;
    if (subject_token_type !== JWT || requested_token_type !== ACCESS) throw new errors.InvalidRequest('a JWT is exchanged for an access token');
    const word = await verified(subject_token, 'mcp-identity+jwt', provider.issuer);
    await give(ctx, nameOf(word), resource, scope, { issued_token_type: ACCESS });
  }, ['subject_token', 'subject_token_type', 'requested_token_type', 'resource', 'audience', 'scope']);

  provider.registerGrantType(JWT_BEARER, async ctx => {
    const { assertion, resource, scope } = ctx.oidc.params;
    const said = await verified(assertion, 'oauth-id-jag+jwt', provider.issuer);
    if (said.client_id !== ctx.oidc.client.clientId) throw new errors.InvalidGrant('it was made for another client');
    if (resource !== undefined && resource !== said.resource) throw new errors.InvalidTarget('it is for another resource');
    if (shown.has(said.jti)) throw new errors.InvalidGrant('it was shown before');
    shown.add(said.jti);
    const allowed = (said.scope ?? READ).split(' ');
    await give(ctx, nameOf(said), said.resource, scope?.split(' ').filter(one => allowed.includes(one)).join(' ') ?? allowed.join(' '));
  }, ['assertion', 'resource', 'scope']);
}
