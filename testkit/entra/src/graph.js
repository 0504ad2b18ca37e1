// The few Microsoft Graph calls a gateway needs: /me, group overage, userinfo, sign-out everywhere, its own registration.
import { createLocalJWKSet, jwtVerify } from 'jose';
import { GRAPH_APPID } from './directory.js';
import { readBody, send } from './http.js';
import { registered } from './graph_applications.js';
import { ungraphify } from './graph_tokens.js';

const ok = { 'odata-version': '4.0' };

export async function graph(entra, request, response, url) {
  const err = (status, code, message, headers = {}) => send(response, status, { error: { code, message, innerError: { date: new Date().toISOString() } } }, headers);
  const bearer = request.headers.authorization?.match(/^Bearer (.+)$/)?.[1];
  if (!bearer) return err(401, 'InvalidAuthenticationToken', 'Access token is empty.');
  let c;
  for (const tid of Object.keys(entra.state.tenants)) {
    try {
      ({ payload: c } = await jwtVerify(ungraphify(bearer), createLocalJWKSet(entra.publicJwks(tid)), { audience: ['https://graph.microsoft.com', GRAPH_APPID], issuer: entra.issuerV1(tid), algorithms: ['RS256'] }));
      break;
    } catch { /* next tenant */ }
  }
  if (!c) return err(401, 'InvalidAuthenticationToken', 'Access token validation failure. Invalid audience.');
  const user = c.scp ? entra.userByOid(c.tid, c.oid) : undefined;
  // Continuous access evaluation: a revoked session is refused at once with a claims challenge
  if (user && user.revokedSince / 1000 > c.iat + 300) {
    const nbf = Math.floor(user.revokedSince / 1000);
    const claims = Buffer.from(JSON.stringify({ access_token: { nbf: { essential: true, value: String(nbf) } } })).toString('base64');
    return err(401, 'InvalidAuthenticationToken', 'Continuous access evaluation resulted in challenge with result: InteractionRequired and code: TokenIssuedBeforeRevocationTimestamp', {
      'www-authenticate': `Bearer realm="", authorization_uri="${entra.base}/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000", error="insufficient_claims", claims="${claims}"`,
    });
  }
  const scopes = new Set((c.scp ?? '').split(' '));
  const roles = new Set(c.roles ?? []);
  const p = url.pathname.replace(/^\/graph/, '');
  const found = registered(entra, c.tid, roles, p, url);
  if (found) return found.refused ? err(403, 'Authorization_RequestDenied', 'Insufficient privileges to complete the operation.') : send(response, 200, found, ok);
  const me = p.match(/^\/v1\.0\/(me|users\/([^/]+))(\/.*)?$/);
  const target = me && (me[1] === 'me' ? user : entra.state.users.find((u) => u.tid === c.tid && (u.oid === me[2] || u.upn === decodeURIComponent(me[2]))));
  if (p === '/oidc/userinfo') return send(response, 200, { sub: c.sub, name: user?.name, family_name: user?.family_name, given_name: user?.given_name, email: user?.mail, picture: 'https://graph.microsoft.com/v1.0/me/photo/$value' });
  if (!me) return err(404, 'BadRequest', `Resource not found for the segment '${p}'.`);
  if (!target) return err(404, 'Request_ResourceNotFound', 'Resource does not exist or one of its queried reference-property objects are not present.');
  const rest = me[3] ?? '';
  if (rest === '') {
    if (!scopes.has('User.Read') && !roles.has('User.Read.All')) return err(403, 'Authorization_RequestDenied', 'Insufficient privileges to complete the operation.');
    return send(response, 200, { '@odata.context': 'https://graph.microsoft.com/v1.0/$metadata#users/$entity', id: target.oid, displayName: target.name, givenName: target.given_name, surname: target.family_name, mail: target.mail, userPrincipalName: target.upn }, ok);
  }
  const mayReadGroups = scopes.has('GroupMember.Read.All') || roles.has('Group.Read.All');
  if (rest === '/getMemberObjects' && request.method === 'POST') {
    if (!mayReadGroups) return err(403, 'Authorization_RequestDenied', 'Insufficient privileges to complete the operation.');
    JSON.parse(await readBody(request) || '{}');
    return send(response, 200, { '@odata.context': 'https://graph.microsoft.com/v1.0/$metadata#Collection(Edm.String)', value: target.groups }, ok);
  }
  if (rest.startsWith('/transitiveMemberOf')) {
    if (!mayReadGroups) return err(403, 'Authorization_RequestDenied', 'Insufficient privileges to complete the operation.');
    const top = Math.min(Number(url.searchParams.get('$top') ?? 100), 999);
    const skip = Number(url.searchParams.get('$skiptoken') ?? 0);
    const slice = target.groups.slice(skip, skip + top);
    const next = skip + top < target.groups.length ? `${entra.base}/graph/v1.0/${me[1]}${rest}?$top=${top}&$skiptoken=${skip + top}` : undefined;
    return send(response, 200, { '@odata.context': 'https://graph.microsoft.com/v1.0/$metadata#groups', ...(next ? { '@odata.nextLink': next } : {}), value: slice.map((id) => ({ '@odata.type': '#microsoft.graph.group', id, displayName: `Group ${id.slice(-4)}`, securityEnabled: true })) }, ok);
  }
  if (rest === '/revokeSignInSessions' && request.method === 'POST') {
    target.revokedSince = Date.now();
    return send(response, 200, { '@odata.context': 'https://graph.microsoft.com/v1.0/$metadata#Edm.Boolean', value: true }, ok);
  }
  return err(404, 'BadRequest', `Resource not found for the segment '${rest}'.`);
}
