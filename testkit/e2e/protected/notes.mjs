// What the protected servers in TypeScript have in common, whichever SDK serves it: how a token is verified, what they offer whom, and
// the test's hands: GET /_test/seen, POST /_test/revoke[?sub=…] (no token that was shown so far, of that person, is taken any more).
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { READ, WRITE } from './known.mjs';

/** The one argument of a server's program: {port, issuer, keys, audience, issuerOfTokens?, scopes: {read, write}?}. */
export function described(json) {
  const about = JSON.parse(json);
  const resource = `http://127.0.0.1:${about.port}/mcp`;
  return { audience: resource, issuerOfTokens: about.issuer, read: READ, write: WRITE, resource, ...about };
}

export function notes(about) {
  const keys = createRemoteJWKSet(new URL(about.keys), { cooldownDuration: 0 });
  const seen = [], revoked = new Set();

  /** Who a token is for; `refuse` makes the SDK's error for one that is not good. */
  const verify = refuse => async token => {
    let claims;
    try {
      ({ payload: claims } = await jwtVerify(token, keys, { issuer: about.issuerOfTokens, audience: about.audience, algorithms: ['RS256'], requiredClaims: ['exp', 'sub'] }));
    } catch (error) {
      throw refuse(`no token for here: ${error.message}`);
    }
    if (revoked.has(token)) throw refuse('the token was revoked');
    // Entra's own names for what RFC 9068 calls otherwise.
    const { sub, upn = sub, appid, client_id = appid, scope, scp = scope ?? '', exp } = claims;
    return { token, clientId: client_id, scopes: scp.split(' '), expiresAt: exp, resource: new URL(about.resource), extra: { sub: upn } };
  };

  /** Remembers who came with what. */
  const watch = (request, response, next) => {
    response.on('finish', () => {
      const { method, params } = request.body ?? {};
      seen.push({ method, tool: params?.name, sub: request.auth?.extra.sub, client: request.auth?.clientId, token: request.auth?.token, status: response.statusCode });
    });
    next();
  };

  const hands = app => {
    app.get('/_test/seen', (request, response) => response.json(seen));
    app.post('/_test/revoke', (request, response) => {
      const { sub: whose } = request.query;
      for (const { token, sub } of seen) if (token && (!whose || sub === whose)) revoked.add(token);
      response.json({ revoked: revoked.size });
    });
  };

  return { verify, watch, hands };
}

/** Whether a message calls the tool that wants the other scope too. */
export const isWriting = message => message?.method === 'tools/call' && message.params?.name === 'write';

/** Puts everything into an `McpServer` of either SDK; `auth` says for whom it is. */
export function fill(server, auth) {
  const text = value => ({ content: [{ type: 'text', text: JSON.stringify(value) }] });
  const who = ({ clientId, scopes, extra }) => ({ sub: extra.sub, client: clientId, scopes });
  server.registerTool('whoami', { description: 'Whose token it was' }, more => text(who(more?.http?.authInfo ?? more?.authInfo ?? auth)));
  server.registerTool('write', { description: 'Wants another scope' }, () => text({ written: true }));
  server.registerTool(`diary_of_${auth.extra.sub.replace(/\W+/g, '_')}`, { description: 'Only its owner sees it' }, () => text({ diary: auth.extra.sub }));
  return server;
}
