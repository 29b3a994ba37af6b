"""Istio's VirtualService, Gateway and DestinationRule as types: the fields that a gateway without TLS acts on.

Names and meanings are networking.istio.io/v1's; v1beta1 and v1alpha3 have the same schema. Durations stay strings here
(`"0.5s"`, `"1h2m"`): only who enforces them needs numbers.
"""

from __future__ import annotations

from pydantic import Field

from controller.api.meta import ApiModel, Condition, Resource

ISTIO_API_VERSION = "networking.istio.io/v1"
RECONCILED = "Reconciled"
"""The condition by which Istio says whether gateways have a configuration, where its status reporting is on."""
MESH_GATEWAY = "mesh"
"""The gateway name that means: every sidecar in the mesh."""


class StringMatch(ApiModel):
    """At most one is set; none (`{}`) asks only that the value is there."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class PortSelector(ApiModel):
    number: int = 0


class Destination(ApiModel):
    """A service of the registry: a name as in DNS, a subset that a DestinationRule names, a port number of the service."""

    host: str = ""
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(ApiModel):
    set: dict[str, str] = Field(default_factory=dict)
    add: dict[str, str] = Field(default_factory=dict)
    remove: list[str] = Field(default_factory=list)


class Headers(ApiModel):
    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()


class HttpMatch(ApiModel):
    """All that is set must hold; a route is taken where one of its matches holds."""

    name: str = ""
    uri: StringMatch | None = None
    ignoreUriCase: bool = False
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = Field(default_factory=dict)
    withoutHeaders: dict[str, StringMatch] = Field(default_factory=dict)
    queryParams: dict[str, StringMatch] = Field(default_factory=dict)
    gateways: list[str] = Field(default_factory=list)
    port: int | None = None
    sourceLabels: dict[str, str] = Field(default_factory=dict)
    sourceNamespace: str = ""


class RouteDestination(ApiModel):
    destination: Destination = Destination()
    weight: int = 0
    headers: Headers = Headers()


class RegexRewrite(ApiModel):
    match: str = ""
    rewrite: str = ""


class Rewrite(ApiModel):
    uri: str = ""
    authority: str = ""
    uriRegexRewrite: RegexRewrite | None = None


class Redirect(ApiModel):
    uri: str = ""
    prefixRewrite: str = ""
    authority: str = ""
    scheme: str = ""
    port: int | None = None
    derivePort: str | None = None
    redirectCode: int = 0


class ResponseBody(ApiModel):
    string: str | None = None
    bytes: str | None = None


class DirectResponse(ApiModel):
    status: int = 0
    body: ResponseBody | None = None


class Retries(ApiModel):
    """`attempts: 0` switches retries off; an absent `retries` means Istio's default of two."""

    attempts: int = 0
    perTryTimeout: str = ""
    retryOn: str = ""
    backoff: str = ""
    retryRemoteLocalities: bool | None = None
    retryIgnorePreviousHosts: bool | None = None


class Percent(ApiModel):
    """0 to 100."""

    value: float = 0.0


class FaultDelay(ApiModel):
    fixedDelay: str = ""
    percentage: Percent | None = None
    percent: int = 0


class FaultAbort(ApiModel):
    httpStatus: int | None = None
    grpcStatus: str = ""
    http2Error: str = ""
    percentage: Percent | None = None


class Fault(ApiModel):
    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class MirrorDestination(ApiModel):
    destination: Destination = Destination()
    percentage: Percent | None = None


class CorsPolicy(ApiModel):
    allowOrigins: list[StringMatch] = Field(default_factory=list)
    allowOrigin: list[str] = Field(default_factory=list)
    allowMethods: list[str] = Field(default_factory=list)
    allowHeaders: list[str] = Field(default_factory=list)
    exposeHeaders: list[str] = Field(default_factory=list)
    maxAge: str = ""
    allowCredentials: bool | None = None
    unmatchedPreflights: str = ""


class Delegate(ApiModel):
    name: str = ""
    namespace: str = ""


class HttpRoute(ApiModel):
    name: str = ""
    match: list[HttpMatch] = Field(default_factory=list)
    route: list[RouteDestination] = Field(default_factory=list)
    redirect: Redirect | None = None
    directResponse: DirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: Rewrite | None = None
    timeout: str = ""
    retries: Retries | None = None
    fault: Fault | None = None
    mirror: Destination | None = None
    mirrorPercentage: Percent | None = None
    mirrorPercent: int | None = None
    mirrors: list[MirrorDestination] = Field(default_factory=list)
    corsPolicy: CorsPolicy | None = None
    headers: Headers = Headers()


class VirtualServiceSpec(ApiModel):
    hosts: list[str] = Field(default_factory=list)
    gateways: list[str] = Field(default_factory=list)
    http: list[HttpRoute] = Field(default_factory=list)
    exportTo: list[str] = Field(default_factory=list)


class VirtualServiceStatus(ApiModel):
    observedGeneration: int | str = 0
    conditions: list[Condition] = Field(default_factory=list)


class VirtualService(Resource):
    apiVersion: str = ISTIO_API_VERSION
    kind: str = "VirtualService"
    spec: VirtualServiceSpec = VirtualServiceSpec()
    status: VirtualServiceStatus = VirtualServiceStatus()

    def reconciled(self) -> Condition | None:
        """What the gateway says of this very generation; None while it says nothing."""
        found = next((item for item in self.status.conditions if item.type == RECONCILED), None)
        # Istio writes generations as strings, as protobuf's JSON has 64-bit numbers.
        return found if int(self.status.observedGeneration) >= self.metadata.generation else None


class GatewayPort(ApiModel):
    number: int = 0
    protocol: str = ""
    name: str = ""


class ServerTls(ApiModel):
    httpsRedirect: bool = False
    mode: str = ""
    credentialName: str = ""


class Server(ApiModel):
    """One port of a gateway; `hosts` may carry a namespace (`ns/host`) and wildcards."""

    port: GatewayPort = GatewayPort()
    hosts: list[str] = Field(default_factory=list)
    name: str = ""
    tls: ServerTls | None = None


class GatewaySpec(ApiModel):
    servers: list[Server] = Field(default_factory=list)
    selector: dict[str, str] = Field(default_factory=dict)


class Gateway(Resource):
    apiVersion: str = ISTIO_API_VERSION
    kind: str = "Gateway"
    spec: GatewaySpec = GatewaySpec()


class RingHash(ApiModel):
    minimumRingSize: int = 0


class Maglev(ApiModel):
    tableSize: int = 0


class HttpCookie(ApiModel):
    name: str = ""
    path: str = ""
    ttl: str | None = None


class ConsistentHash(ApiModel):
    httpHeaderName: str = ""
    httpQueryParameterName: str = ""
    httpCookie: HttpCookie | None = None
    useSourceIp: bool = False
    minimumRingSize: int = 0
    ringHash: RingHash | None = None
    maglev: Maglev | None = None


class LoadBalancer(ApiModel):
    simple: str = ""
    consistentHash: ConsistentHash | None = None


class TcpPool(ApiModel):
    maxConnections: int = 0
    connectTimeout: str = ""
    idleTimeout: str = ""


class HttpPool(ApiModel):
    http1MaxPendingRequests: int = 0
    http2MaxRequests: int = 0
    maxRequestsPerConnection: int = 0
    maxRetries: int = 0
    idleTimeout: str = ""
    h2UpgradePolicy: str = ""
    useClientProtocol: bool = False
    maxConcurrentStreams: int = 0


class ConnectionPool(ApiModel):
    tcp: TcpPool = TcpPool()
    http: HttpPool = HttpPool()


class OutlierDetection(ApiModel):
    """Zero in `consecutive5xxErrors` or `consecutiveGatewayErrors` switches that check off; absent is Envoy's default."""

    consecutive5xxErrors: int | None = None
    consecutiveGatewayErrors: int | None = None
    consecutiveLocalOriginFailures: int | None = None
    splitExternalLocalOriginErrors: bool = False
    interval: str = ""
    baseEjectionTime: str = ""
    maxEjectionPercent: int = 0
    minHealthPercent: int = 0


class TrafficSettings(ApiModel):
    """What a policy can say for all ports or for one; what is set for a subset or port replaces the wider setting."""

    loadBalancer: LoadBalancer | None = None
    connectionPool: ConnectionPool | None = None
    outlierDetection: OutlierDetection | None = None


class PortTrafficSettings(TrafficSettings):
    port: PortSelector = PortSelector()


class TrafficPolicy(TrafficSettings):
    portLevelSettings: list[PortTrafficSettings] = Field(default_factory=list)


class Subset(ApiModel):
    """The endpoints of a service whose labels include these."""

    name: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    trafficPolicy: TrafficPolicy | None = None


class DestinationRuleSpec(ApiModel):
    host: str = ""
    trafficPolicy: TrafficPolicy | None = None
    subsets: list[Subset] = Field(default_factory=list)
    exportTo: list[str] = Field(default_factory=list)


class DestinationRule(Resource):
    apiVersion: str = ISTIO_API_VERSION
    kind: str = "DestinationRule"
    spec: DestinationRuleSpec = DestinationRuleSpec()
