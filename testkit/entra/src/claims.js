// Claims the way Entra writes them, for v1.0 and v2.0 access tokens and v2.0 ID tokens.
import { createHash, randomBytes } from 'node:crypto';

const OVERAGE = 200; // JWT limit; 150 is SAML's
const opaque = (n = 18) => randomBytes(n).toString('base64url');

export const pairwise = (tid, oid, appId) => createHash('sha256').update(`${tid}|${oid}|${appId}`).digest('base64url');

export function groupClaims(user, app) {
  if (!app?.groupMembershipClaims) return {};
  if (user.groups.length <= OVERAGE) return user.groups.length ? { groups: user.groups } : {};
  return {
    _claim_names: { groups: 'src1' },
    // Entra still names the retired Azure AD Graph here; the documented advice is to build a Microsoft Graph URL instead.
    _claim_sources: { src1: { endpoint: `https://graph.windows.net/${user.tid}/users/${user.oid}/getMemberObjects` } },
  };
}

export function idTokenClaims(entra, tid, user, app) {
  const roles = user.appRoles[app?.appId] ?? [];
  const now = Math.floor(Date.now() / 1000) + entra.state.config.skewSeconds;
  return {
    sub: user.oid,
    oid: user.oid,
    tid,
    ver: '2.0',
    uti: opaque(),
    rh: `1.${opaque(24)}.`,
    aio: opaque(48),
    nbf: now - 300,
    name: user.name,
    preferred_username: user.login ?? user.upn,
    email: user.mail,
    ...(user.idp ? { idp: user.idp } : {}),
    ...(roles.length ? { roles } : {}),
    ...groupClaims(user, app),
  };
}

export function accessTokenClaims(entra, { tid, user, client, app, aud, scp, exp, auth, mfa, cp1, acrs }) {
  const now = Math.floor(Date.now() / 1000) + entra.state.config.skewSeconds;
  const v2 = app.accessTokenVersion === 2;
  const has = (c) => app.optionalClaims?.includes(c);
  const common = {
    aud: v2 ? app.appId : aud,
    iss: v2 ? entra.issuerV2(tid) : entra.issuerV1(tid),
    iat: now - 300,
    nbf: now - 300,
    exp: exp + entra.state.config.skewSeconds,
    aio: opaque(30),
    rh: `1.${opaque(24)}.`,
    tid,
    uti: opaque(16),
    ver: v2 ? '2.0' : '1.0',
  };
  const actor = v2 ? { azp: client.appId, azpacr: auth } : { appid: client.appId, appidacr: auth };

  if (!user) { // application permissions
    const roles = client.appRoleAssignments?.[app.appId] ?? [];
    return {
      ...common,
      ...actor,
      idp: v2 ? undefined : entra.issuerV1(tid),
      oid: client.spOid,
      sub: client.spOid,
      ...(roles.length ? { roles } : {}),
      ...(has('idtyp') || !v2 ? { idtyp: 'app' } : {}),
    };
  }

  const roles = user.appRoles[app.appId] ?? [];
  return {
    ...common,
    ...actor,
    name: user.name,
    oid: user.oid,
    sub: pairwise(tid, user.oid, app.appId),
    scp: scp.join(' '),
    ...(v2
      ? { preferred_username: user.login ?? user.upn }
      : {
        acr: '1', amr: mfa ? ['pwd', 'mfa'] : ['pwd'], family_name: user.family_name, given_name: user.given_name,
        ipaddr: '127.0.0.1', unique_name: user.login ?? user.upn, upn: user.upn,
      }),
    ...(user.idp ? { idp: user.idp } : {}),
    ...(has('acct') ? { acct: user.guest ? 1 : 0 } : {}),
    ...(roles.length ? { roles } : {}),
    ...groupClaims(user, app),
    ...(cp1 && has('xms_cc') ? { xms_cc: ['cp1'] } : {}),
    ...(acrs ? { acrs } : {}),
  };
}
