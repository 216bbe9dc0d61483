// Judges one prepared part with an exported detector, in ONNX Runtime, and decides as chiasm does.
//
//     judge MODEL PART.npz [--json]
//
// MODEL is a folder of 'chiasm export RUN --to onnx --out MODEL'; PART.npz holds what
// 'model.graph_inputs(...)' of Python returns, written by numpy.savez. See README.md.
// Exit status: 0 good, 1 defective, 3 undecided, 2 an error, which a sentence explains.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>

using Json = nlohmann::json;

namespace {

struct Array {
    std::vector<int64_t> shape;
    std::vector<float> values;
};

std::runtime_error wrong(const std::string& sentence) { return std::runtime_error(sentence); }

std::string read_bytes(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw wrong(path + " cannot be opened; check the path.");
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

uint64_t number(const std::string& bytes, size_t at, size_t length) {
    if (at + length > bytes.size()) throw wrong("The file ends too early; copy it again.");
    uint64_t value = 0;
    for (size_t i = length; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
    return value;
}

// An array of float32 in NumPy's format, version 1 to 3: a header in words, then the values.
Array parse_npy(const std::string& bytes, const std::string& name) {
    if (bytes.compare(0, 6, "\x93NUMPY", 6) != 0) throw wrong(name + " is no array of NumPy.");
    const size_t width = bytes.at(6) == 1 ? 2 : 4;
    const size_t begin = 8 + width, length = number(bytes, 8, width);
    const std::string header = bytes.substr(begin, length);
    if (header.find("'<f4'") == std::string::npos ||
        header.find("'fortran_order': False") == std::string::npos)
        throw wrong(name + " must be float32 in C order, as graph_inputs returns it.");
    Array array;
    size_t count = 1;
    const size_t open = header.find('(', header.find("'shape'")), close = header.find(')', open);
    std::string words = header.substr(open + 1, close - open - 1);
    std::replace(words.begin(), words.end(), ',', ' ');
    const char* next = words.c_str();
    char* end = nullptr;
    for (int64_t side = std::strtoll(next, &end, 10); end != next;
         next = end, side = std::strtoll(next, &end, 10)) {
        array.shape.push_back(side);
        count *= static_cast<size_t>(side);
    }
    if (bytes.size() != begin + length + 4 * count)
        throw wrong(name + " holds another number of values than its header says.");
    array.values.resize(count);
    std::memcpy(array.values.data(), bytes.data() + begin + length, 4 * count);
    return array;
}

// The arrays of a file of numpy.savez: a ZIP archive whose members are not compressed.
std::map<std::string, Array> read_npz(const std::string& path) {
    const std::string bytes = read_bytes(path);
    const size_t last = bytes.rfind("PK\x05\x06");
    if (last == std::string::npos) throw wrong(path + " is no file of numpy.savez.");
    std::map<std::string, Array> arrays;
    size_t at = number(bytes, last + 16, 4);
    for (uint64_t left = number(bytes, last + 10, 2); left > 0; --left) {
        const size_t size = number(bytes, at + 24, 4), named = number(bytes, at + 28, 2);
        const size_t member = number(bytes, at + 42, 4);
        const std::string name = bytes.substr(at + 46, named);
        if (number(bytes, at + 10, 2) != 0)
            throw wrong(path + " is compressed; write it by numpy.savez.");
        const size_t begin =
            member + 30 + number(bytes, member + 26, 2) + number(bytes, member + 28, 2);
        arrays[name.substr(0, name.rfind(".npy"))] =
            parse_npy(bytes.substr(begin, size), path + ": " + name);
        at += 46 + named + number(bytes, at + 30, 2) + number(bytes, at + 32, 2);
    }
    return arrays;
}

struct Verdict {
    double score = 0, p_value = 0;
    bool decided = false, defective = false;
    double threshold = 0;
};

// Conformal p-value against the scores of held-out normals; defective above the threshold. Both are
// those of deployment.json and not of the graph: 'chiasm recalibrate' writes that file alone.
Verdict decide(double score, const Json& deployment) {
    if (!std::isfinite(score)) throw wrong("The score is not finite; is the input sound?");
    const auto normals = deployment.at("calibration_scores").get<std::vector<double>>();
    const auto as_high =
        std::count_if(normals.begin(), normals.end(), [&](double n) { return n >= score; });
    Verdict verdict;
    verdict.score = score;
    verdict.p_value = (1.0 + static_cast<double>(as_high)) / (1.0 + normals.size());
    if (!deployment.contains("threshold"))
        throw wrong("deployment.json says no threshold: export the model with chiasm 0.2 or later.");
    verdict.decided = !deployment.at("threshold").is_null();
    if (verdict.decided) {
        verdict.threshold = deployment.at("threshold").get<double>();
        verdict.defective = score > verdict.threshold;
    }
    return verdict;
}

Verdict judge(const std::string& folder, const std::string& part) {
    const Json deployment = Json::parse(read_bytes(folder + "/deployment.json"));
    if (deployment.at("wing") != "detector" || deployment.at("format") != "onnx")
        throw wrong(folder + " holds no detector in ONNX: 'chiasm export RUN --to onnx'.");
    Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "judge");
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);
    Ort::Session session(environment, (folder + "/model.onnx").c_str(), options);
    std::map<std::string, Array> arrays = read_npz(part);
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<std::string> names;
    std::vector<Ort::Value> inputs;
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t i = 0; i < session.GetInputCount(); ++i) {
        names.emplace_back(session.GetInputNameAllocated(i, allocator).get());
        const auto found = arrays.find(names.back());
        if (found == arrays.end())
            throw wrong(part + " has no array '" + names.back() + "'; the model needs it.");
        Array& array = found->second;
        inputs.push_back(Ort::Value::CreateTensor<float>(memory, array.values.data(),
                                                         array.values.size(), array.shape.data(),
                                                         array.shape.size()));
    }
    std::vector<const char*> asked;
    for (const std::string& name : names) asked.push_back(name.c_str());
    const char* wanted[] = {"score"};
    const auto outputs = session.Run(Ort::RunOptions{nullptr}, asked.data(), inputs.data(),
                                     inputs.size(), wanted, 1);
    return decide(outputs[0].GetTensorData<float>()[0], deployment);
}

}  // namespace

int main(int count, char** words) {
    const bool json = count == 4 && std::string(words[3]) == "--json";
    if (count != 3 && !json) {
        std::cerr << "usage: judge MODEL PART.npz [--json]\n";
        return 2;
    }
    try {
        const Verdict verdict = judge(words[1], words[2]);
        const char* decision =
            !verdict.decided ? "undecided" : verdict.defective ? "defective" : "good";
        if (json) {
            std::cout.precision(17);
            std::cout << "{\"score\": " << verdict.score << ", \"p_value\": " << verdict.p_value
                      << ", \"defective\": "
                      << (!verdict.decided ? "null" : verdict.defective ? "true" : "false") << "}\n";
        } else {
            std::cout << decision << ": score " << verdict.score << ", p-value "
                      << verdict.p_value;
            if (verdict.decided) std::cout << ", alarms above " << verdict.threshold;
            std::cout << "\n";
        }
        return !verdict.decided ? 3 : verdict.defective ? 1 : 0;
    } catch (const std::exception& error) {  // of ONNX Runtime and of the JSON library as well
        std::cerr << "judge: " << error.what() << "\n";
        return 2;
    }
}
