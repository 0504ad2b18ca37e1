// The directory: tenants, people, applications, consent. Everything is made up, except that Graph and the audience of federated
// credentials have the ids that Microsoft gave them.

export const CONTOSO = 'c0170000-0000-4000-8000-000000000001';
export const FABRIKAM = 'fab00000-0000-4000-8000-000000000002';
export const GRAPH_APPID = '00000003-0000-0000-c000-000000000000';
export const TOKEN_EXCHANGE_APPID = 'fb60f99c-7a34-4190-8149-302f77469936';

/** The object id of the managed identity that the metadata service speaks for. */
export const MANAGED_IDENTITY = '0e0a0000-0000-4000-8000-00000000000e';

export const APP = {
  gateway: '11111111-1111-4111-8111-111111111111',
  orders: '22222222-2222-4222-8222-222222222222',
  daemon: '33333333-3333-4333-8333-333333333333',
  cli: '44444444-4444-4444-8444-444444444444',
  payroll: '55555555-5555-4555-8555-555555555555',
  visitor: '66666666-6666-4666-8666-666666666666',
};

const g = (n) => `99990000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const manyGroups = Array.from({ length: 250 }, (_, i) => g(1000 + i));

/** The directory as it is at the start; `redirectUris` are the gateway's, beside its usual ones. */
export function seed({ redirectUris = [] } = {}) {
  const tenants = {
    [CONTOSO]: { id: CONTOSO, domain: 'contoso.onmicrosoft.com', name: 'Contoso' },
    [FABRIKAM]: { id: FABRIKAM, domain: 'fabrikam.onmicrosoft.com', name: 'Fabrikam' },
  };

  const user = (tid, n, upn, name, extra = {}) => ({
    tid,
    oid: `0${n}0a0000-0000-4000-8000-0000000000${String(n).padStart(2, '0')}`,
    upn,
    name,
    given_name: name.split(' ')[0],
    family_name: name.split(' ')[1],
    mail: upn.replace('.onmicrosoft.com', '.example'),
    password: 'Passw0rd!',
    groups: [g(1)],
    appRoles: {}, // appId -> [role value]
    disabled: false,
    revokedSince: 0, // ms
    mfaSince: 0, // ms: a policy demanded MFA at this moment
    lastInteractive: 0, // ms
    satisfiedPolicies: [],
    ...extra,
  });

  const users = [
    user(CONTOSO, 1, 'alice@contoso.onmicrosoft.com', 'Alice Admin', {
      groups: [g(1), g(2)], appRoles: { [APP.gateway]: ['Mcp.Admin', 'Mcp.Reader'] },
    }),
    user(CONTOSO, 2, 'bob@contoso.onmicrosoft.com', 'Bob Reader', { appRoles: { [APP.gateway]: ['Mcp.Reader'] } }),
    user(CONTOSO, 3, 'carol@contoso.onmicrosoft.com', 'Carol Crowd', { groups: manyGroups, appRoles: { [APP.gateway]: ['Mcp.Reader'] } }),
    user(CONTOSO, 4, 'dave@contoso.onmicrosoft.com', 'Dave Disabled', { disabled: true }),
    user(CONTOSO, 5, 'erin_fabrikam#EXT#@contoso.onmicrosoft.com', 'Erin Guest', {
      guest: true, idp: `https://sts.windows.net/${FABRIKAM}/`, login: 'erin@fabrikam.onmicrosoft.com',
    }),
    user(FABRIKAM, 6, 'erin@fabrikam.onmicrosoft.com', 'Erin Guest'),
    user(FABRIKAM, 7, 'frank@fabrikam.onmicrosoft.com', 'Frank Other', { appRoles: { [APP.gateway]: ['Mcp.Admin'] } }),
    user(CONTOSO, 8, 'tess@contoso.onmicrosoft.com', 'Tess Tenant', { appRoles: { [APP.gateway]: ['Mcp.TenantAdmin'] } }),
    user(CONTOSO, 9, 'owen@contoso.onmicrosoft.com', 'Owen Owner', { appRoles: { [APP.gateway]: ['Mcp.ServerOwner'] } }),
    user(CONTOSO, 0, 'nora@contoso.onmicrosoft.com', 'Nora Norole', { groups: [] }),
  ];

  const apps = [
    {
      appId: GRAPH_APPID,
      name: 'Microsoft Graph',
      multiTenant: true,
      identifierUris: ['https://graph.microsoft.com'],
      accessTokenVersion: 1,
      scopes: ['User.Read', 'GroupMember.Read.All', 'Mail.Read', 'openid', 'profile', 'email', 'offline_access'],
      adminScopes: ['GroupMember.Read.All'],
      appRoles: ['Group.Read.All', 'User.Read.All', 'Application.Read.All', 'DelegatedPermissionGrant.Read.All'],
    },
    {
      appId: APP.gateway,
      name: 'MCP Gateway',
      homeTenant: CONTOSO,
      multiTenant: true,
      identifierUris: [`api://${APP.gateway}`, 'https://mcp.contoso.example/mcp'],
      accessTokenVersion: 2,
      groupMembershipClaims: 'SecurityGroup',
      optionalClaims: ['idtyp', 'xms_cc', 'acct'],
      scopes: ['access_as_user', 'mcp.read', 'mcp.write', 'mcp.admin'],
      adminScopes: ['mcp.admin'],
      appRoles: ['Mcp.Invoke.All'],
      secrets: [{ value: 'gateway-secret-1' }, { value: 'gateway-secret-2' }, { value: 'gateway-secret-old', expired: true }],
      redirectUris: ['http://127.0.0.1:8080/oauth/callback/entra', 'http://localhost:8080/oauth/callback/entra', 'http://127.0.0.1:9/cb', ...redirectUris],
      fic: [{ issuerTid: CONTOSO, subject: MANAGED_IDENTITY, audience: 'api://AzureADTokenExchange' }],
    },
    {
      appId: APP.orders,
      name: 'Orders API',
      homeTenant: CONTOSO,
      multiTenant: true,
      identifierUris: ['api://orders'],
      accessTokenVersion: 1,
      scopes: ['Orders.Read', 'Orders.Write'],
      appRoles: ['Orders.Process.All'],
    },
    {
      appId: APP.payroll,
      name: 'Payroll API (Conditional Access: MFA)',
      homeTenant: CONTOSO,
      identifierUris: [`api://${APP.payroll}`],
      accessTokenVersion: 2,
      scopes: ['Pay.Read'],
      appRoles: [],
      caPolicy: '9ab03e19-ed42-4168-b6b7-7001fb3e933a',
    },
    {
      appId: APP.daemon,
      name: 'Nightly daemon',
      homeTenant: CONTOSO,
      identifierUris: [`api://${APP.daemon}`],
      accessTokenVersion: 2,
      scopes: [],
      appRoles: [],
      secrets: [{ value: 'daemon-secret-1' }],
      certs: [], // added at run time: { jwk, x5t, 'x5t#S256' }
      appRoleAssignments: { [APP.gateway]: ['Mcp.Invoke.All'], [APP.orders]: ['Orders.Process.All'] },
    },
    {
      // May ask for tokens like any application of the tenant, and was given no role.
      appId: APP.visitor,
      name: 'Visitor without a role',
      homeTenant: CONTOSO,
      identifierUris: [],
      accessTokenVersion: 2,
      scopes: [],
      appRoles: [],
      secrets: [{ value: 'visitor-secret-1' }],
    },
    {
      appId: APP.cli,
      name: 'Public CLI',
      homeTenant: CONTOSO,
      multiTenant: true,
      public: true,
      identifierUris: [],
      accessTokenVersion: 2,
      scopes: [],
      appRoles: [],
      redirectUris: ['http://localhost', 'http://127.0.0.1/callback'],
    },
  ];
  // the service principal's object id differs from the app id
  for (const a of apps) a.spOid = `5${a.appId.slice(1)}`;

  // admin consent: tenant -> client -> resource -> scopes
  const consent = [];
  const grant = (client, resource, scopes) => {
    for (const tid of [CONTOSO, FABRIKAM]) consent.push({ tid, client, resource, scopes, user: null });
  };
  grant(APP.gateway, APP.gateway, ['access_as_user', 'mcp.read', 'mcp.write']);
  grant(APP.gateway, GRAPH_APPID, ['User.Read', 'GroupMember.Read.All']);
  grant(APP.gateway, APP.orders, ['Orders.Read']);
  grant(APP.gateway, APP.payroll, ['Pay.Read']);
  grant(APP.cli, APP.gateway, ['access_as_user', 'mcp.read']);
  grant(APP.cli, GRAPH_APPID, ['User.Read']);

  return {
    tenants,
    users,
    apps,
    consent,
    autologin: {},
    config: {
      accessTokenTTL: 3900, // Entra: random 60-90 min; 65 min here, fixed for tests
      refreshTokenTTL: 90 * 24 * 3600,
      rotation: 'entra', // 'entra': new RT each time, old ones stay valid; 'strict': one-time use, reuse revokes
      resourceParam: 'match', // 'match': 2026 behaviour (AADSTS9010010 unless it matches); 'reject': AADSTS901002
      uiRequiredError: 'invalid_grant', // for 50076/50079/53003 at /token: as recorded; 'interaction_required': as documented
      skewSeconds: 0,
      authAgeSeconds: 0, // how long ago people are said to have signed in (auth_time)
    },
  };
}
