#include "kvcache/index_events.h"

#include <algorithm>
#include <utility>

namespace nibble::kv {
namespace {

uint64_t Name(const PrefixIndex& index, PageId page) { return index.chain(page).low; }

IndexEvent Stored(const PrefixIndex& index, PageId page) {
  IndexEvent event;
  event.page = Name(index, page);
  if (const PageId parent = index.parent(page); parent != kNoPage) event.parent = Name(index, parent);
  event.tokens.assign(index.tokens(page).begin(), index.tokens(page).end());
  return event;
}

}  // namespace

void IndexEvents::Stop() {
  salt_.reset();
  recorded_.clear();
}

void IndexEvents::OnInserted(const PrefixIndex& index, PageId page) {
  if (Tells(index, page)) recorded_.push_back(Stored(index, page));
}

void IndexEvents::OnErasing(const PrefixIndex& index, PageId page) {
  if (!Tells(index, page)) return;
  IndexEvent event;
  event.kind = IndexEvent::Kind::kRemoved;
  event.page = Name(index, page);
  recorded_.push_back(std::move(event));
}

std::vector<IndexEvent> IndexEvents::Take() { return std::exchange(recorded_, {}); }

std::vector<IndexEvent> IndexEvents::Indexed(const PrefixIndex& index) const {
  std::vector<IndexEvent> events;
  std::vector<bool> told(index.num_pages(), false);
  for (PageId page = 0; page < index.num_pages(); ++page) {
    if (!index.Contains(page) || !Tells(index, page)) continue;
    const auto first = static_cast<int64_t>(events.size());
    for (PageId at = page; at != kNoPage && !told[at]; at = index.parent(at)) {
      told[at] = true;
      events.push_back(Stored(index, at));
    }
    std::reverse(events.begin() + first, events.end());
  }
  return events;
}

bool IndexEvents::Tells(const PrefixIndex& index, PageId page) const { return salt_ && index.salt(page) == *salt_; }

}  // namespace nibble::kv
