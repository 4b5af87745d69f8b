// SPDX-License-Identifier: Apache-2.0
#include "agent/metrics/metrics_server.h"

#include "agent/metrics/metric_families.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <exception>

namespace bulkhead::agent {
namespace {

class OfStatus final : public prometheus::Collectable {
public:
    explicit OfStatus(std::function<std::optional<v1::LocalStatus>()> ask) : ask_(std::move(ask)) {}
    [[nodiscard]] std::vector<prometheus::MetricFamily> Collect() const override
    {
        const auto status = ask_();
        return status ? metric_families(*status, system_clock().wall()) : std::vector<prometheus::MetricFamily>{};
    }

private:
    std::function<std::optional<v1::LocalStatus>()> ask_;
};

class PrometheusServer final : public MetricsServer {
public:
    PrometheusServer(const std::string& listen, std::shared_ptr<OfStatus> metrics)
        : metrics_(std::move(metrics)), exposer_(listen, 1)
    {
        exposer_.RegisterCollectable(metrics_);
    }

private:
    std::shared_ptr<OfStatus> metrics_; // the exposer holds it weakly
    prometheus::Exposer exposer_;
};

} // namespace

Result<std::unique_ptr<MetricsServer>> serve_metrics(const std::string& listen,
                                                     std::function<std::optional<v1::LocalStatus>()> ask)
{
    try {
        return std::make_unique<PrometheusServer>(listen, std::make_shared<OfStatus>(std::move(ask)));
    } catch (const std::exception& exception) { // CivetException: the address is in use, or not ours
        return fail(ErrorKind::failed, "metrics: cannot listen on {}: {}", listen, exception.what());
    }
}

} // namespace bulkhead::agent
